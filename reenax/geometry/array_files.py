"""Files of named arrays (``.npz``): written whole or not at all, read without trusting anything that they say.

No object is ever unpickled, and the sizes that a file declares are checked before memory is taken for them.
"""

import math
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from reenax.core.errors import UserError

MAX_BYTES = 2**31
"""The most that the arrays of one file may take together."""

_MAX_MEMBERS = 4096


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of plain dtypes as ``.npz``; the file is there whole or not at all.

    Raises:
        UserError: the name does not end in ``.npz``.
        OSError: the file cannot be written; nothing is left behind.
    """
    if path.suffix != ".npz":
        raise UserError(f"{path}: give a name that ends in .npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_arrays(path: Path, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file under their names.

    Args:
        path: the file.
        names: those to read, where the file has them; all of them by default.
        max_bytes: the most that they may take together.

    Raises:
        UserError: the file is missing, is no ``.npz``, is truncated or damaged, holds objects, or declares arrays of
            more than ``max_bytes`` altogether.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if not members or len(members) > _MAX_MEMBERS:
                raise UserError(f"{path} is no file of named arrays (.npz)")
            members = [info for info in members if names is None or info.filename.removesuffix(".npy") in names]
            if sum(info.file_size for info in members) > max_bytes:
                raise UserError(f"{path} declares arrays of more than {max_bytes >> 20} MiB and is not read")
            return {info.filename.removesuffix(".npy"): _read_member(archive, info, path) for info in members}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or 'damaged'}") from None
    except Exception:  # zipfile, zlib and numpy raise what they like on bytes that they do not understand
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        found = "a truncated or damaged file of named arrays (.npz)" if is_archive else "no file of named arrays (.npz)"
        raise UserError(f"{path} is {found}") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array whose header and length agree; the archive's checksum is verified on the way."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"version {version} of the array format")
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise UserError(f"{path}: {info.filename} holds objects and is not read, since that can run code")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or size > info.file_size:
            raise ValueError("an array longer than its file")
        content = file.read(size + 1)  # one more, so that the end is reached and the checksum compared
    if len(content) != size:
        raise ValueError("an array of another length than declared")
    # bytearray: an array over bytes would be read-only
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if fortran else "C")
