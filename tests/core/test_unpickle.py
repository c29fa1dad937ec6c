"""Pickles that want more memory or time than they have bytes, and records that are damaged."""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.core.unpickle import MAX_LISTED, PickledArray, PickledObject, numbers, unpickle


def read(content: bytes) -> Any:
    return unpickle(Path("table.pkl"), content)


def array_of(values: Any) -> PickledArray:
    array = PickledArray()
    array.value = np.asarray(values)
    return array


def test_no_memory_is_taken_for_what_is_only_declared() -> None:
    assert read(pickle.dumps(bytearray(b"here"), 5)) == b"here"
    tracemalloc.start()
    with pytest.raises(UserError, match="truncated or damaged"):
        read(b"\x80\x05\x96" + (2**32).to_bytes(8, "little") + b".")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("made_of", "call"),
    [
        (b"X\x00\x80\x00\x00" + bytes(2**15), b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"),
        (b"](" + b"K\x01" * 2**15 + b"e", b"c__builtin__\nset\n(h\x00tR"),
        (b"](" + b"]q\x01(K\x01K\x02e" + b"h\x01" * 2**15 + b"e", b"ccollections\nOrderedDict\n(h\x00tR"),
    ],
)
def test_one_content_is_not_copied_again_and_again(made_of: bytes, call: bytes) -> None:
    once = b"\x80\x02" + made_of + b"q\x000" + call
    read(once + b".")
    with pytest.raises(UserError, match="copies the same content over and over"):
        read(once + (b"0" + call) * 40 + b".")


def test_sets_and_dictionaries_are_made_of_lists_alone() -> None:
    for name, words in (
        (b"__builtin__\nset", "a set of a str"),
        (b"collections\nOrderedDict", "a dictionary of a str"),
    ):
        with pytest.raises(UserError, match=words):
            read(b"\x80\x02c" + name + b"\n(U\x03abctR.")


def test_ordered_dictionaries_of_python_2_keep_their_items() -> None:
    pair = b"](U\x01bK\x02e](U\x01aK\x01e"
    assert read(b"\x80\x02ccollections\nOrderedDict\n(](" + pair + b"etR.") == {"b": 2, "a": 1}
    with pytest.raises(UserError, match="sets an item by a tuple"):
        read(b"\x80\x02ccollections\nOrderedDict\n(](](K\x01K\x02\x86K\x01eetR.")
    with pytest.raises(UserError, match="truncated or damaged"):
        read(b"\x80\x02ccollections\nOrderedDict\n(](K\x01etR.")


def test_rows_of_numbers_are_read() -> None:
    np.testing.assert_array_equal(numbers([1, 2.5, True]), [1, 2.5, 1])
    np.testing.assert_array_equal(numbers([(1, 2), [3, np.float32(4)]]), [[1, 2], [3, 4]])
    assert numbers(read(pickle.dumps({"a": [0.5] * 17}))["a"]).shape == (17,)


def test_lists_that_numpy_would_follow_without_end_are_refused() -> None:
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]
    circle: list[Any] = []
    circle.append(circle)
    long = [0] * 2**13
    for value in (shared, circle, [circle], [long] * (MAX_LISTED // 2**13 + 1), [1, [2]], [[1], [2, 3]], ["1"], [1j]):
        with pytest.raises(ValueError, match="no array of numbers"):
            numbers(value)


def test_damaged_records_are_no_array_of_numbers() -> None:
    whole = {
        "_shape": (2, 2),
        "data": array_of([1.0, 2.0]),
        "indptr": array_of([0, 1, 2]),
        "indices": array_of([0, 1]),
    }
    changes: list[dict[str, Any]] = [
        {"_shape": None},
        {"indptr": array_of(np.zeros(0))},
        {"indices": array_of([0, 7])},
        {"indices": array_of([0.0, 1.0])},
        {"data": "text"},
        {"data": array_of(np.zeros(5))},
    ]
    matrix = PickledObject("csc_matrix")
    matrix.state = whole
    np.testing.assert_array_equal(numbers(matrix), [[1, 0], [0, 2]])
    for state in [*(whole | change for change in changes), *({k: whole[k] for k in whole if k != n} for n in whole)]:
        matrix.state = state
        with pytest.raises(ValueError, match="no array of numbers"):
            numbers(matrix)
    selected = PickledObject("chumpy")
    for chosen in (array_of([9]), array_of([0.5])):
        selected.state = {"a": array_of([1.0]), "idxs": chosen}
        with pytest.raises(ValueError, match="no array of numbers"):
            numbers(selected)
