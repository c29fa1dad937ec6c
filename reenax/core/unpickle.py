"""Pickles of numbers, read without running anything that is in them.

A pickle is a program: it names functions and calls them. Here no name is ever looked up. The few that face models and
tables of labels need (arrays of NumPy, sparse matrices of SciPy, arrays of chumpy) stand for plain records of this
module, everything else is refused by name. Even NumPy's own rebuilding of arrays is not used, for it trusts the sizes
and the types that a file declares.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reenax.core.errors import UserError

MAX_BYTES = 2**28
MAX_NUMBERS = 2**27
MAX_LISTED = 2**24
"""Numbers of one list; a few bytes of a pickle can name the same long row many times."""

_SPARSE = re.compile(r"(csc|csr|coo)_(matrix|array)")


class _Refused(Exception):
    """What a pickle asks for and does not get."""


class Dtype:
    """The type of an array's numbers; ``value`` is None for strings, objects and records."""

    value: np.dtype | None = None

    def __init__(self, name: Any, *_: Any) -> None:
        if isinstance(name, str) and re.fullmatch("b1|[iuf][1248]", name) and name != "f1":
            self.value = np.dtype(name)

    def set_state(self, state: Any) -> None:
        if self.value is not None and state[1] == ">":
            self.value = self.value.newbyteorder(">")


class PickledArray:
    """An array of numbers in ``value``, or the elements of an array of objects in ``objects``."""

    value: np.ndarray | None = None
    objects: list[Any]

    def __init__(self) -> None:
        self.objects = []

    def set_state(self, state: Any) -> None:
        shape, dtype, fortran, content = state[-4:]
        if isinstance(content, list):
            self.objects = content
        elif isinstance(dtype, Dtype) and dtype.value is not None:
            self.value = _array(content, dtype.value, shape, bool(fortran))


class PickledObject:
    """A sparse matrix of SciPy or an array of chumpy: its attributes.

    Attributes:
        kind: the name of its class.
        state: its attributes.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (attributes, slots)
            state = state[0]
        if isinstance(state, dict):
            self.state = state


class _Global:
    """A name in a pickle, and what calling it gives here."""

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self.name, self.make = name, make


def _array(content: Any, dtype: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    """Numbers from bytes; their count has to be what the shape says."""
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    shape = tuple(shape)
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("an array of another length than declared")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _find(module: str, name: str, tensors: bool) -> _Global:
    full = f"{module}.{name}"
    numpy_names = {
        "multiarray._reconstruct": lambda *_: PickledArray(),
        "multiarray.scalar": _scalar,
        "numeric._frombuffer": _from_buffer,
    }
    for core in ("numpy.core.", "numpy._core."):
        if full.startswith(core) and full.removeprefix(core) in numpy_names:
            return _Global(full, numpy_names[full.removeprefix(core)])
    others: dict[str, Callable[..., Any] | None] = {
        "numpy.ndarray": None,
        "numpy.dtype": Dtype,
        "_codecs.encode": _encode,
        "collections.OrderedDict": _ordered,
        **dict.fromkeys(("copy_reg._reconstructor", "copyreg._reconstructor"), _reconstructed),
        **dict.fromkeys(("__builtin__.object", "builtins.object")),
        # a list, for members would have to be hashed
        **dict.fromkeys(("__builtin__.set", "builtins.set"), _members),
    }
    if tensors:  # tensors among the values that nobody asks for
        others |= dict.fromkeys(
            ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes"), lambda *_: PickledObject("tensor")
        )
    if full in others:
        return _Global(full, others[full])
    if full.startswith("scipy.sparse.") and _SPARSE.fullmatch(name):
        return _Global(full, lambda *_: PickledObject(name))
    if module == "chumpy" or module.startswith("chumpy."):
        return _Global(full, lambda *_: PickledObject("chumpy"))
    raise _Refused(f"names {full!r:.80}")


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, Dtype) or dtype.value is None:
        return None
    return _array(content, dtype.value, (), False)[()]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    if isinstance(dtype, Dtype) and dtype.value is not None:
        array.value = _array(content, dtype.value, shape, order == "F")
    return array


def _members(members: Any = ()) -> list[Any]:
    if not isinstance(members, list | tuple):
        raise _Refused(f"makes a set of a {type(members).__name__}")
    return list(members)


def _ordered(items: Any = (), *_: Any) -> dict[str | int, Any]:
    """An ordered dictionary, which Python 2 hands its items when it is made, as a list of pairs."""
    if not isinstance(items, list | tuple):
        raise _Refused(f"makes a dictionary of a {type(items).__name__}")
    made: dict[str | int, Any] = {}
    for pair in items:
        key, value = pair
        _put(made, key, value)
    return made


def _put(to: Any, key: Any, value: Any) -> None:
    if not isinstance(key, str | int) or not isinstance(to, dict):  # deep keys overflow in hashing
        raise _Refused(f"sets an item by a {type(key).__name__}")
    to[key] = value


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("encodes what are no bytes")
    return text.encode("latin1")


def _reconstructed(of: Any, *_: Any) -> Any:
    return _made(of, ())


def _made(what: Any, arguments: Any) -> Any:
    if not isinstance(what, _Global) or what.make is None or not isinstance(arguments, tuple):
        raise _Refused(f"calls {what.name if isinstance(what, _Global) else type(what).__name__}")
    return what.make(*arguments)


class _Unpickler(pickle._Unpickler):  # the one in Python: it takes no memory for what a file only declares
    tensors = False
    room = 0  # how much may still be copied of what the file says once
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        return _find(module, name, self.tensors)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self._spend(arguments)
        self.stack[-1] = _made(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        self._spend(state)
        if isinstance(self.stack[-1], Dtype | PickledArray | PickledObject):
            self.stack[-1].set_state(state)
        elif not isinstance(self.stack[-1], dict):  # an ordered dictionary has none worth keeping
            raise _Refused(f"sets the state of a {type(self.stack[-1]).__name__}")

    def _spend(self, arguments: Any) -> None:
        """Counts what a call copies: one long list or text, said once, can be handed to any number of calls."""
        if isinstance(arguments, tuple):
            self.room -= sum(len(x) for x in arguments if isinstance(x, str | list | tuple))
        if self.room < 0:
            raise _Refused("copies the same content over and over")

    def load_items(self) -> None:
        items = self.pop_mark()
        self._set(items)

    def load_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], key, value)

    def load_bytes(self) -> None:
        """The bytes that are there; pickle's own takes the memory that the file declares before it reads any."""
        length = int.from_bytes(self.read(8), "little")
        content = self.read(length)
        if len(content) != length:
            raise EOFError("fewer bytes than declared")
        self.append(content)

    def load_empty_set(self) -> None:
        self.append([])

    def load_members(self) -> None:
        members = self.pop_mark()
        if not isinstance(self.stack[-1], list):
            raise _Refused(f"adds members to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(members)

    def load_frozen_set(self) -> None:
        self.append(self.pop_mark())

    def load_refused(self) -> None:
        raise _Refused("uses an instruction that no table of numbers needs")

    dispatch = {  # noqa: RUF012  # pyright: ignore[reportAssignmentType] (nobody changes it)
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_item,
        pickle.SETITEMS[0]: load_items,
        pickle.DICT[0]: load_dictionary,
        pickle.BYTEARRAY8[0]: load_bytes,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.ADDITEMS[0]: load_members,
        pickle.FROZENSET[0]: load_frozen_set,
        **dict.fromkeys(
            (
                *(pickle.INST[0], pickle.OBJ[0], pickle.NEWOBJ_EX[0], pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]),
                *(pickle.PERSID[0], pickle.BINPERSID[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]),
            ),
            load_refused,
        ),
    }


def read_pickle(path: Path) -> Any:
    """The content of a pickle: plain containers, and the records of this module, for `numbers`.

    Raises:
        UserError: the file is missing, too large, damaged, no pickle, or asks for anything else.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB and is not read")
    return unpickle(path, path.read_bytes())


def unpickle(path: Path, content: bytes, tensors: bool = False) -> Any:
    """The same of bytes; ``path`` is for messages. With ``tensors`` those of PyTorch are passed over, not refused.

    Raises:
        UserError: as `read_pickle`.
    """
    reader = _Unpickler(io.BytesIO(content), encoding="latin1")
    reader.tensors = tensors
    reader.room = 4 * len(content) + 2**16  # without repetition every call's arguments stand in the file by themselves
    try:
        return reader.load()
    except _Refused as refused:
        raise UserError(f"{path} {refused} and is not read, since such a file can run code when opened") from None
    except Exception:  # bytes that are no pickle lead anywhere
        raise UserError(f"{path} is a truncated or damaged pickle, or none at all") from None


def numbers(value: Any) -> np.ndarray:
    """A value of a pickle as an array of numbers; sparse matrices become dense.

    Raises:
        ValueError: it is none.
    """
    try:
        return _numbers(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of damaged records
        raise ValueError(f"no array of numbers ({error})") from error


def _numbers(value: Any) -> np.ndarray:
    if isinstance(value, PickledObject):
        value = _dense(value) if _SPARSE.fullmatch(value.kind) else _chumpy(value)
    elif isinstance(value, PickledArray):
        value = value.value
    elif isinstance(value, list | tuple):
        value = _listed(value)
    if not isinstance(value, np.ndarray | np.number) or value.dtype.kind not in "biuf":
        raise ValueError("no numbers")
    return np.asarray(value)


def _listed(value: list[Any] | tuple[Any, ...]) -> np.ndarray:
    """Numbers, or rows of them. NumPy itself would follow lists of shared lists, or of themselves, without end."""
    rows = value if value and all(isinstance(row, list | tuple) for row in value) else [value]
    if sum(map(len, rows)) > MAX_LISTED:
        raise ValueError("a list of absurd length")
    if not all(isinstance(number, int | float | np.number | np.bool_) for row in rows for number in row):
        raise ValueError("a list of something else")
    return np.array(value)


def _chumpy(value: PickledObject, depth: int = 0) -> np.ndarray | None:
    """The numbers of a chumpy array: its own, or a selection from those of another."""
    for name in ("x", "r"):
        if name in value.state:
            own = value.state[name]
            return own.value if isinstance(own, PickledArray) else None
    source, chosen = value.state.get("a"), value.state.get("idxs")
    if source is None or not isinstance(chosen, PickledArray) or chosen.value is None or depth > 3:
        return None
    taken = _chumpy(source, depth + 1) if isinstance(source, PickledObject) else numbers(source)
    if taken is None:
        return None
    shape = value.state.get("preferred_shape") or (-1,)
    return taken.ravel()[chosen.value.ravel()].reshape(shape if isinstance(shape, tuple) else (-1,))


def _dense(value: PickledObject) -> np.ndarray:
    """A sparse matrix as an array, its indexes checked on the way."""
    state = value.state
    rows, columns = (int(n) for n in state.get("_shape", ()))
    if rows < 0 or columns < 0 or rows * columns > MAX_NUMBERS:
        raise ValueError("a sparse matrix of absurd size")
    data = numbers(state["data"])
    if value.kind.startswith("coo"):
        row, column = (numbers(x) for x in (state["coords"] if "coords" in state else (state["row"], state["col"])))
    else:
        starts, minor = numbers(state["indptr"]).astype(np.int64), numbers(state["indices"])
        if starts[0] != 0 or starts[-1] != len(minor) or (np.diff(starts) < 0).any():
            raise ValueError("rows of a sparse matrix that do not follow each other")
        major = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        row, column = (minor, major) if value.kind.startswith("csc") else (major, minor)
    if len(row) and min(row.min(), column.min()) < 0:
        raise ValueError("a negative index")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (row, column), data)
    return dense
