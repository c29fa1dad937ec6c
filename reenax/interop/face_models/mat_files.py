"""Numbers of MATLAB files, with the sizes that they declare checked before memory is taken for them."""

import math
import warnings
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import scipy.io

from reenax.core.errors import UserError
from reenax.geometry.array_files import MAX_BYTES

_NUMERIC = frozenset(
    {"double", "single", "logical"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_HEADER_BYTES, _TAG_BYTES, _COMPRESSED, _CHUNK = 128, 8, 15, 2**20


def read_mat(path: Path, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The numeric arrays of a MATLAB file of version 5 to 7 under their names.

    Args:
        path: the file.
        names: those to read, where the file has them; all of them by default.
        max_bytes: the most that they may take together.

    Raises:
        UserError: the file is missing, of another format, truncated or damaged, or declares too much.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise UserError(f"{path} is a MATLAB file of version 7.3; save it again in MATLAB with -v7")
    if not head.startswith(b"MATLAB 5.0") or head[126:128] not in (b"IM", b"MI"):
        raise UserError(f"{path} is no MATLAB file")
    try:
        _check_expanded(path, "little" if head[126:128] == b"IM" else "big", max_bytes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a variable that is there twice
            found = [(n, shape) for n, shape, kind in scipy.io.whosmat(path) if kind in _NUMERIC]
            wanted = [n for n, _ in found if names is None or n in names]
            if sum(math.prod(shape) * 8 for n, shape in found if n in wanted) > 2 * max_bytes:
                raise UserError(f"{path} declares arrays of more than {max_bytes >> 20} MiB and is not read")
            content = scipy.io.loadmat(path, variable_names=wanted) if wanted else {}
    except UserError:
        raise
    except Exception:  # scipy raises what it likes on bytes that it does not understand
        raise UserError(f"{path} is a truncated or damaged MATLAB file") from None
    return {n: content[n] for n in wanted if isinstance(content.get(n), np.ndarray) and content[n].dtype.kind in "biuf"}


def _check_expanded(path: Path, order: str, max_bytes: int) -> None:
    """Walks the file's elements, expands those that are compressed, and counts without keeping anything.

    Raises:
        UserError: more than there may be.
        ValueError: an element longer than the file.
    """
    total = 0
    with path.open("rb") as file:
        file.seek(_HEADER_BYTES)
        while tag := file.read(_TAG_BYTES):
            kind, size = (int.from_bytes(tag[i : i + 4], order) for i in (0, 4))  # pyright: ignore[reportArgumentType]
            expander = zlib.decompressobj() if kind == _COMPRESSED else None
            while size > 0:
                chunk = file.read(min(size, _CHUNK))
                if not chunk:
                    raise ValueError("an element longer than the file")
                size -= len(chunk)
                while chunk:
                    if expander is None:
                        total, chunk = total + len(chunk), b""
                    else:
                        total += len(expander.decompress(chunk, _CHUNK))
                        chunk = expander.unconsumed_tail
                    if total > max_bytes:
                        raise UserError(f"{path} holds arrays of more than {max_bytes >> 20} MiB and is not read")
