"""What a compiled program moves between devices, read from its text (HLO, one instruction per line)."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional"})

_HEADER = re.compile(r"(ENTRY\s+)?%?([\w.\-]+)\s*\(.*\{\s*$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT\s+)?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_LOOP = re.compile(r"\b(?:body|condition)=%?([\w.\-]+)")
_TRIPS = re.compile(r"known_trip_count\W+n\W+(\d+)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_PLACE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction by which devices exchange arrays.

    Attributes:
        kind: one of `KINDS`.
        payload: bytes of the whole arrays, as one device holds them where they are whole: the result of an all-gather,
            the operand of a reduce-scatter.
        largest: bytes of the largest of the arrays.
        group: numbers of the devices of the first group that exchange; the other groups do so at the same time.
        times: how often a step runs it.
        certain: whether that is known; otherwise it is within a loop of unknown length, which is counted once.
        place: where in the Python code it comes from.
    """

    kind: str
    payload: int
    largest: int
    group: tuple[int, ...]
    times: int
    certain: bool
    place: str

    @property
    def sent(self) -> float:
        """Bytes that every device sends in a step, around a ring."""
        n = len(self.group)
        share = (n - 1) / n
        rounds = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.times * self.payload * rounds.get(self.kind, share)


@dataclasses.dataclass(frozen=True)
class Work:
    """What products of arrays and traffic with the memory come to, within a few percent of XLA's own count.

    Attributes:
        flops, bytes: with every loop run as often as it is known to be.
        flops_once, bytes_once: with every loop run once, as XLA counts.
    """

    flops: float
    bytes: float
    flops_once: float
    bytes_once: float


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    opcode: str
    rest: str  # operands and attributes

    @property
    def operands(self) -> list[str]:
        return _OPERAND.findall(_bracketed(self.rest))


class Program:
    """A compiled program.

    Args:
        text: as ``compiled.as_text()`` gives it.
    """

    def __init__(self, text: str) -> None:
        self._computations: dict[str, list[_Instruction]] = {}
        self._entry = ""
        partitions = re.search(r"num_partitions=(\d+)", text.split("\n", 1)[0])
        self._devices = int(partitions.group(1)) if partitions else 1
        here: list[_Instruction] = []
        for line in text.splitlines():
            if (found := _INSTRUCTION.match(line)) is not None:
                here.append(_Instruction(*found.groups()))
            elif (header := _HEADER.match(line)) is not None:
                here = self._computations.setdefault(header.group(2), [])
                self._entry = header.group(2) if header.group(1) else self._entry
        if self._entry not in self._computations:
            raise ValueError("this is no text of a compiled program: it has no ENTRY computation")

    @functools.cached_property
    def collectives(self) -> tuple[Collective, ...]:
        """All of them, in no particular order."""
        made = []
        for name, (times, certain) in self._runs.items():
            for step in self._computations[name]:
                kind = step.opcode.removesuffix("-start")
                # an asynchronous one that calls a computation is counted there; what is done was started before
                if kind in KINDS and not (step.opcode != kind and _CALLED.search(step.rest) and kind != "all-reduce"):
                    group = _first_group(step.rest, self._devices)
                    result = _result(step, kind)
                    whole = len(group) if kind == "reduce-scatter" else 1
                    payload, largest = (whole * of(_sizes(result)) for of in (sum, max))
                    place = _PLACE.search(step.rest)
                    where = place.group(1) if place else ""
                    made.append(Collective(kind, payload, largest, group, times, certain, where))
        return tuple(made)

    @functools.cached_property
    def work(self) -> Work:
        """Products and traffic."""
        fused = {called for step in self._steps() if step.opcode == "fusion" for called in _called(step)}
        counts = np.zeros(4)
        for name, (times, _) in self._runs.items():
            sizes = {step.name: sum(_sizes(step.type)) for step in self._computations[name]}
            shapes = {step.name: _shape(step.type) for step in self._computations[name]}
            calls = self._calls[name]
            for step in self._computations[name]:
                flops = _product(step, shapes)
                touched = (
                    0
                    if name in fused or step.opcode in FREE
                    else sizes[step.name] + sum(sizes.get(operand, 0) for operand in step.operands)
                )
                counts += np.array([flops * times, touched * times, flops * calls, touched * calls], float)
        return Work(*counts.tolist())

    def _steps(self) -> Iterator[_Instruction]:
        for steps in self._computations.values():
            yield from steps

    @functools.cached_property
    def _runs(self) -> dict[str, tuple[int, bool]]:
        """How often each computation runs in a step, and whether that is certain."""
        runs: dict[str, tuple[int, bool]] = {}
        for name, times, certain in self._walk(loops=True):
            before, sure = runs.get(name, (0, True))
            runs[name] = before + times, sure and certain
        return runs

    @functools.cached_property
    def _calls(self) -> dict[str, int]:
        """The same with every loop run once."""
        calls: dict[str, int] = {}
        for name, times, _ in self._walk(loops=False):
            calls[name] = calls.get(name, 0) + times
        return calls

    def _walk(self, loops: bool) -> Iterator[tuple[str, int, bool]]:
        waiting = [(self._entry, 1, True)]
        while waiting:
            name, times, certain = waiting.pop()
            yield name, times, certain
            for step in self._computations[name]:
                for called in _called(step):
                    trips = _TRIPS.search(step.rest) if step.opcode == "while" else None
                    sure = certain and (step.opcode != "while" or trips is not None)
                    factor = int(trips.group(1)) if trips and loops else 1
                    if called in self._computations:
                        waiting.append((called, times * factor, sure))


def _called(step: _Instruction) -> list[str]:
    """The computations that an instruction runs; every branch of a choice is one of them."""
    if step.opcode == "while":
        return _LOOP.findall(step.rest)
    branches = _BRANCHES.search(step.rest)
    return _CALLED.findall(step.rest) + (re.findall(r"[\w.\-]+", branches.group(1)) if branches else [])


def _bracketed(text: str) -> str:
    """The beginning of a text up to the bracket that closes what was opened before it."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:place]
    return text


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    found = re.search(r"\d+", dtype)
    return int(found.group()) if found and dtype[0] in "subfc" else 0  # tokens are nothing


def _sizes(text: str) -> list[int]:
    """Bytes of the arrays of a type, which is that of an array or a tuple of any depth."""
    shapes = [(dtype, [int(n.strip("<=")) for n in axes.split(",") if n]) for dtype, axes in _ARRAY.findall(text)]
    return [-(-_bits(dtype) * math.prod(shape) // 8) for dtype, shape in shapes] or [0]


def _shape(text: str) -> tuple[int, ...]:
    found = _ARRAY.search(text)
    return tuple(int(n.strip("<=")) for n in found.group(2).split(",") if n) if found else ()


def _parts(text: str) -> list[str]:
    """The elements of a tuple's type; those of an array are itself."""
    text = re.sub(r"/\*.*?\*/", "", text).strip()
    if not text.startswith("("):
        return [text]
    parts, depth, start = [], 0, 1
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or not depth:
            parts.append(text[start:place])
            start = place + 1
        if not depth:
            break
    return parts


def _result(step: _Instruction, kind: str) -> str:
    """The result's type; an asynchronous start but an all-reduce's has (operands, results, ...) for its own."""
    return step.type if step.opcode == kind or kind == "all-reduce" else _parts(step.type)[1]


def _first_group(rest: str, devices: int) -> tuple[int, ...]:
    """The first group of devices, in any of the forms in which groups are written."""
    if (pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)", rest)) is not None:
        return tuple(map(int, pairs.groups()))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}", rest)
    if named is not None:
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named.group(1))}
        return _along(axes, named.group(2) or "", named.group(3))
    if (iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\S+?)(?:,? |,$|$)", rest)) is not None:
        numbers = _iota(iota.group(3)).reshape(int(iota.group(1)), int(iota.group(2)))
        return tuple(numbers[0].tolist())
    if (listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest)) is not None:
        return tuple(int(n) for n in listed.group(1).split(","))
    return tuple(range(devices))


def _iota(text: str) -> np.ndarray:
    """Device numbers that are written as ``[64,4]T(1,0)``: counted in this shape, then transposed."""
    shape, _, order = text.partition("T")
    sizes = [int(n) for n in re.findall(r"\d+", shape)]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    return numbers.transpose([int(n) for n in re.findall(r"\d+", order)]) if order else numbers


def _along(axes: Mapping[str, int], numbers: str, along: str) -> tuple[int, ...]:
    """The first group along some axes of a mesh; ``'x':(2)4`` is the part of size 4 of axis x behind one of size 2."""
    if "[" in numbers:
        ids = _iota(numbers).reshape(-1)
    else:
        ids = np.array([int(n) for n in re.findall(r"\d+", numbers)] or range(math.prod(axes.values())))
    chosen: list[bool] = []
    sizes: list[int] = []
    parts = {name: (int(before), int(size)) for name, before, size in re.findall(r"'([^']+)':\((\d+)\)(\d+)", along)}
    for name, size in axes.items():
        if name in parts:
            before, part = parts[name]
            sizes += [before, part, size // (before * part)]
            chosen += [False, True, False]
        else:
            sizes.append(size)
            chosen.append(f"'{name}'" in along)
    ids = ids.reshape(sizes)
    return tuple(ids[tuple(slice(None) if c else 0 for c in chosen)].reshape(-1).tolist())


def _product(step: _Instruction, shapes: Mapping[str, Sequence[int]]) -> float:
    """Multiplications and additions of a convolution or a product of matrices."""
    if step.opcode not in ("convolution", "dot") or len(step.operands) < 2:
        return 0.0
    left, right = (shapes.get(name, ()) for name in step.operands[:2])
    made = math.prod(_shape(step.type))
    if step.opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", step.rest)
        return 2.0 * made * math.prod(left[int(n)] for n in (axes.group(1).split(",") if axes else []) if n)
    labels = re.search(r"dim_labels=\w+_(\w+)->", step.rest)
    features = right[labels.group(1).index("o")] if labels else 1
    return 2.0 * made * math.prod(right) / features
