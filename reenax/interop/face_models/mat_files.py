"""Numbers of MATLAB files of version 5 to 7 (the "Level 5 MAT-File Format" of The MathWorks).

SciPy reads these files too, but a damaged one can bring its compiled reader, and with it Python, to a crash. Licensed
models are passed from hand to hand, so this reader trusts nothing: every length is checked against what is there.
"""

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.array_files import MAX_BYTES

Order = Literal["<", ">"]

_HEADER_BYTES, _TAG_BYTES = 128, 8
_MATRIX, _COMPRESSED = 14, 15
_LOGICAL, _COMPLEX = 0x0200, 0x0800

# how numbers are stored, by the number of the type, and what they stand for, by that of the array's class
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_mat(path: Path, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The real numeric arrays of a MATLAB file under their names; everything else in it is passed over.

    Args:
        path: the file.
        names: those to read, where the file has them; all of them by default.
        max_bytes: the most that the file may hold, expanded.

    Raises:
        UserError: the file is missing, of another format, truncated or damaged, or holds too much.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
            raise UserError(f"{path} is a MATLAB file of version 7.3; save it again in MATLAB with -v7")
        if not head.startswith(b"MATLAB 5.0") or head[126:128] not in (b"IM", b"MI"):
            raise UserError(f"{path} is no MATLAB file")
        order: Order = "<" if head[126:128] == b"IM" else ">"
        arrays: dict[str, np.ndarray] = {}
        try:
            for content in _matrices(file, order, path, max_bytes):
                name, array = _array(content, order, names)
                if name in arrays:
                    raise ValueError("a name that is there twice")
                if array is not None:
                    arrays[name] = array
        except UserError:
            raise
        except (ValueError, zlib.error, MemoryError):
            raise UserError(f"{path} is a truncated or damaged MATLAB file") from None
    return arrays


def _matrices(file: BinaryIO, order: Order, path: Path, max_bytes: int) -> Iterator[memoryview]:
    """The contents of the file's matrices one after another, those that are compressed expanded."""
    left = max_bytes
    while tag := file.read(_TAG_BYTES):
        kind, size = np.frombuffer(tag, f"{order}u4")
        raw = file.read(min(int(size), left + 1))
        if kind == _COMPRESSED:
            expander = zlib.decompressobj()
            raw = expander.decompress(raw, left + 1)
            if len(raw) <= left:
                if not expander.eof:
                    raise ValueError("compressed content without its end")
                kind, size = np.frombuffer(raw[:_TAG_BYTES], f"{order}u4")
                raw = memoryview(raw)[_TAG_BYTES:]
        left -= len(raw)
        if left < 0:
            raise UserError(f"{path} holds arrays of more than {max_bytes >> 20} MiB and is not read")
        if len(raw) != size:
            raise ValueError("an element of another length than declared")
        if kind == _MATRIX:
            yield memoryview(raw)


def _array(content: memoryview, order: Order, names: Collection[str] | None) -> tuple[str, np.ndarray | None]:
    """The name of a matrix, and its numbers if they are real and wanted."""
    parts = _parts(content, order)
    marks, sizes, letters = (next(parts) for _ in range(3))
    if (marks.dtype.kind, marks.size, sizes.dtype.kind) != ("u", 2, "i"):
        raise ValueError("a matrix that does not begin as one")
    flags, shape, name = int(marks[0]), tuple(int(n) for n in sizes), letters.tobytes().decode("latin1")
    kind = _CLASSES.get(flags & 0xFF)
    if kind is None or flags & _COMPLEX or (names is not None and name not in names):
        return name, None
    values = next(parts)
    if len(shape) < 2 or min(shape) < 0 or math.prod(shape) != len(values):
        raise ValueError("an array of another size than declared")
    return name, values.astype("?" if flags & _LOGICAL else kind, copy=False).reshape(shape, order="F")


def _parts(content: memoryview, order: Order) -> Iterator[np.ndarray]:
    """The elements inside a matrix as flat arrays of the type that each says it has."""
    place = 0
    while place + _TAG_BYTES <= len(content):
        first, size = (int(n) for n in np.frombuffer(content[place : place + _TAG_BYTES], f"{order}u4"))
        if first >> 16:  # a short one: type, length and up to four bytes of content in the place of a tag
            kind, size, start, end = first & 0xFFFF, first >> 16, place + 4, place + _TAG_BYTES
        else:
            kind, start, end = first, place + _TAG_BYTES, place + _TAG_BYTES + size + -size % 8
        if kind not in _TYPES or start + size > min(end, len(content)):
            raise ValueError("an element longer than its matrix, or of an unknown type")
        yield np.frombuffer(content[start : start + size], order + _TYPES[kind])
        place = end
    raise ValueError("a matrix without its elements")
