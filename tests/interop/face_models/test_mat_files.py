"""MATLAB files byte by byte: what is read, and what is refused."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reenax.core.errors import UserError
from reenax.interop.face_models.mat_files import read_mat
from tests.interop.face_models.made_up_face import (
    one_line,
)

MATRIX, DOUBLE, INT32, UINT32, INT8 = 14, 9, 5, 6, 1


def element(kind: int, content: bytes, size: int | None = None, order="<") -> bytes:
    """A tag and its content, padded as the format wants it; ``size`` lies about the length."""
    tag = np.array([kind, len(content) if size is None else size], f"{order}u4").tobytes()
    return tag + content + bytes(-len(content) % 8)


def matrix(
    *, flags=6, shape=(2, 3), name=b"a", values=bytes(48), kind=DOUBLE, size: int | None = None, order="<"
) -> bytes:
    """A matrix of doubles, or one that is wrong somewhere."""
    return element(
        MATRIX,
        element(UINT32, np.array([flags, 0], f"{order}u4").tobytes(), order=order)
        + element(INT32, np.array(shape, f"{order}i4").tobytes(), order=order)
        + element(INT8, name, order=order)
        + element(kind, values, size, order),
        order=order,
    )


def mat_file(path: Path, *elements: bytes, order="<") -> Path:
    mark = {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}[order]
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(elements))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_mat_files_byte_by_byte(tmp_path, order):
    values = np.arange(6, dtype=f"{order}f8")
    small = np.array([3, 1, 2, 0, 5, 4], np.uint8).tobytes()  # doubles that fit are stored as bytes
    path = mat_file(
        tmp_path / "a.mat",
        matrix(values=values.tobytes(), order=order),
        matrix(name=b"b", values=small, kind=2, order=order),
        matrix(name=b"mask", flags=9 | 0x200, values=bytes([0, 1, 1, 0, 0, 1]), kind=2, order=order),
        matrix(name=b"complex", flags=6 | 0x800, order=order),
        matrix(name=b"text", flags=4, values=b"", order=order),
        element(INT8, b"unknown.", order=order),
        order=order,
    )
    found = read_mat(path)
    assert set(found) == {"a", "b", "mask"}
    np.testing.assert_array_equal(found["a"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(found["b"], [[3, 2, 5], [1, 0, 4]])
    assert found["b"].dtype == np.float64
    np.testing.assert_array_equal(found["mask"], [[False, True, False], [True, False, True]])
    assert found["mask"].dtype == np.bool_
    assert set(read_mat(path, {"b", "c"})) == {"b"}


@pytest.mark.parametrize(
    "content",
    [
        matrix(shape=(2**30, 2**30)),
        matrix(shape=(-2, -3)),
        matrix(shape=(6,)),
        matrix(shape=(2, 2)),
        matrix(size=2**31),
        matrix(size=47),
        matrix(values=bytes(7)),
        matrix(kind=8),
        matrix(kind=MATRIX),
        matrix() + matrix(),
        matrix()[:-8],
        element(MATRIX, b""),
        element(MATRIX, bytes(64)),
        element(MATRIX, element(UINT32, b"") + element(INT32, bytes(8)) + element(INT8, b"a")),
        element(MATRIX, element(DOUBLE, b"\xff" * 16) + element(DOUBLE, b"\xff" * 16) + element(INT8, b"a")),
        element(MATRIX, b"\xff" * 64),
        element(15, b"no zlib"),
        element(15, zlib.compress(matrix())[:-1]),
        element(15, zlib.compress(matrix()[:-8])),
        element(15, zlib.compress(b"")),
        element(15, b""),
        b"\0\0\0",
    ],
)
def test_mat_files_that_lie(tmp_path, content):
    with pytest.raises(UserError, match="truncated or damaged") as error:
        read_mat(mat_file(tmp_path / "a.mat", content))
    one_line(error)


def test_mat_files_that_declare_too_much(tmp_path):
    path = tmp_path / "bomb.mat"
    scipy.io.savemat(path, {"a": np.zeros(2**20)}, do_compression=True)
    assert path.stat().st_size < 2**14
    with pytest.raises(UserError, match="more than 1 MiB"):
        read_mat(path, max_bytes=2**20)
