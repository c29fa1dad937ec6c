"""A plan in words and tables."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from reenax.train.accelerators import Accelerator
from reenax.train.hlo import KINDS, Collective
from reenax.train.plan import Plan, Step, expect

FIXES = (
    "raise config.accumulate (with config.batch_size), set config.remat=True or config.dtype=bfloat16, "
    "raise fsdp of --mesh (config.mesh.fsdp), or take more devices for the same batch"
)
NOTES = (
    "The program is the one that XLA makes for CPUs. Those for GPUs and TPUs fuse more, so that they touch fewer bytes "
    "and hold fewer activations; they need memory of their own for convolutions, may add up the gradients of several "
    "uses of a network before they exchange them, and turn an all-reduce of which each device keeps a part into a "
    "reduce-scatter.",
    "Times are the greater one of compute (at the peak; float32 at JAX's default precision) and memory (at full "
    "bandwidth), plus communication (rings at the full speed of the slowest link, no latency, nothing hidden behind "
    "compute); real runs do not reach the peaks. Devices of consecutive numbers share an island of NVLink or ICI.",
)
PIECES = "With config.accumulate the gradients of every piece are exchanged by themselves."
BFLOAT16 = (
    "XLA computes much of bfloat16 in float32 on CPUs: activations and bytes touched can be half of what is said here."
)


def describe_plan(plan: Plan, accelerators: Mapping[str, Accelerator]) -> str:
    """The whole report: memory, work and traffic per device, and the times to expect on each accelerator."""
    parts = [_heading(plan), _memory(plan), *(_step(step) for step in plan.steps), _times(plan, accelerators)]
    notes = [*NOTES]
    notes += [PIECES] if plan.config.accumulate > 1 else []
    notes += [BFLOAT16] if plan.config.dtype == "bfloat16" else []
    parts.append("\n".join(_wrapped(notes)))
    return "\n\n".join(parts)


def _heading(plan: Plan) -> str:
    config, shape = plan.config, ", ".join(f"{axis}={size}" for axis, size in plan.mesh.shape.items())
    networks = ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in plan.params.items())
    pieces = f" in {config.accumulate} pieces" if config.accumulate > 1 else ""
    return (
        f"{config.method}: {sum(plan.params.values()) / 1e6:.2f}M parameters ({networks})\n"
        f"{plan.mesh.size} devices ({shape}), {config.batch_size} examples per step{pieces}, {config.dtype}"
        f"{', remat' if config.remat else ''}"
    )


def _memory(plan: Plan) -> str:
    held = plan.held
    rows = [
        ("params", held.params),
        ("optimiser state", held.optimiser),
        ("averages, other collections", held.other),
        ("frozen networks", held.frozen),
        ("batch", held.batch),
        *((f"activations: {_players(step)}", step.activations) for step in plan.steps),
        ("total" if len(plan.steps) == 1 else "total, of the largest step", plan.memory),
    ]
    return _table(("memory per device", ""), [(name, _size(count)) for name, count in rows])


def _step(step: Step) -> str:
    work = f"{_players(step)}: {step.share:.0%} of the steps; per device {step.flops / 1e9:,.1f} GFLOP, "
    rows = []
    for kind in KINDS:
        found = [c for c in step.collectives if c.kind == kind]
        if found:
            payload = sum(c.times * c.payload for c in found)
            sent, times = sum(c.sent for c in found), sum(c.times for c in found)
            rows.append((kind, f"{times:,}", _size(payload), _size(sent), _largest(found)))
    lines = [work + f"{_size(step.touched)} touched"]
    heads = ("", "times", "arrays", "sent per device", "largest array")
    lines.append(_table(heads, rows) if rows else "  nothing is moved between devices")
    if not all(c.certain for c in step.collectives):
        lines.append("  some of these are in a loop of unknown length, which is counted once")
    return "\n".join(lines)


def _largest(found: Sequence[Collective]) -> str:
    most = max(found, key=lambda c: c.largest)
    return f"{_size(most.largest)} among {len(most.group)}"


def _times(plan: Plan, accelerators: Mapping[str, Accelerator]) -> str:
    rows, lacking = [], []
    for name, accelerator in accelerators.items():
        fits = plan.memory <= accelerator.memory
        lacking += [] if fits else [name]
        verdict = f"{'yes' if fits else 'NO'}, {plan.memory / accelerator.memory:.0%}"
        expected = [expect(step, accelerator, plan.config.dtype) for step in plan.steps]
        mean = sum(step.share * seconds.total for step, seconds in zip(plan.steps, expected, strict=True))
        rate = f"{plan.config.batch_size / mean:,.0f}"
        for step, seconds in zip(plan.steps, expected, strict=True):
            parts = (seconds.compute, seconds.memory, seconds.communication, seconds.total)
            rows.append((name, verdict, _players(step), *map(_milliseconds, parts), rate))
            name = verdict = rate = ""
        if len(plan.steps) > 1:
            rows.append(("", "", "mean", "", "", "", _milliseconds(mean), ""))
    heads = ("", "fits, of its memory", "step of", "compute", "memory", "communication", "roofline", "examples/s")
    lines = [_table(heads, rows)]
    if lacking:
        lines.append(f"does not fit {', '.join(lacking)}: {FIXES}")
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _players(step: Step) -> str:
    return " + ".join(step.players) or "nobody"


def _size(count: int | float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need be; words to the left, numbers to the right."""
    cells = [heads, *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(heads))]
    left = [k == 0 or any(row[k][:1].isalpha() for row in cells[1:]) for k in range(len(heads))]
    lines = []
    for row in cells:
        texts = [
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, left, strict=True)
        ]
        lines.append("  " + "  ".join(texts).rstrip())
    return "\n".join(lines)


def _wrapped(notes: Sequence[str]) -> list[str]:
    return [textwrap.fill(note, 120, initial_indent="- ", subsequent_indent="  ") for note in notes]
