"""Curves of numbers over steps as inline SVG, without anything that draws them but the browser.

Colours come from the page's style sheet by class names (``grid``, ``axis``, ``faint``, ``line``, ``dot``), so that the
curves are readable on light and on dark.
"""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

Points = Sequence[tuple[float, float]]
"""(step, value), steps increasing; a value that is not finite is a gap."""

LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 14.0, 46.0  # room around the axes, in units of the picture
MOST = 600  # points of a line: there are no more pixels
SMOOTHED = 40  # with so many points a running mean is drawn over them
DECADES = 20.0  # the ratio of values from which on the axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Axis:
    """From values to places.

    Attributes:
        low, high: the values at its ends, ``low`` below ``high``.
        start, end: their places in the picture.
        logarithmic: whether equal ratios are equally far apart; ``low`` is then positive.
        ticks: values that are named.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value is."""
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def curve(points: Points, *, title: str, value: str, width: int = 480, height: int = 280) -> str:
    """An ``<svg>`` of one quantity over steps: axes, ticks, the line, and its running mean where there is enough of it.

    Args:
        points: (step, value) in the order of steps.
        title: what is shown, also for those who cannot see it.
        value: title of the vertical axis.
        width, height: of the picture, in its own units; the page scales it.

    Returns:
        The element; with no finite value, axes are left out and a line of text stands there.
    """
    known = [(float(x), float(y)) for x, y in points if math.isfinite(y)]
    opening = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(_spoken(title, known))}">'
    if not known:
        return f"{opening}{_text(width / 2, height / 2, 'nothing to show yet', 'middle')}</svg>"
    steps, values = zip(*known, strict=True)
    across = linear_axis(min(0.0, *steps), max(1.0, *steps), LEFT, width - RIGHT, width // 90, whole=True)
    low, high = min(values), max(values)
    if low > 0 and high / low >= DECADES:
        up = logarithmic_axis(low, high, height - BOTTOM, TOP)
        value += " (log scale)"
    else:
        up = linear_axis(min(low, 0.0) if low >= 0 else low, high, height - BOTTOM, TOP, 5)
    parts = [opening, *_frame(across, up, value, width, height)]
    thin = thinned([(float(x), float(y)) for x, y in points])
    smooth = running_mean(thin) if len(thin) >= SMOOTHED else []
    parts.append(_line(thin, across, up, "faint" if smooth else "line"))
    if smooth:
        parts.append(_line(smooth, across, up, "line"))
    if len(known) <= SMOOTHED / 2:
        parts += [f'<circle class="dot" cx="{across.place(x):.1f}" cy="{up.place(y):.1f}" r="3.5"/>' for x, y in known]
    return "".join((*parts, "</svg>"))


def linear_axis(low: float, high: float, start: float, end: float, most: int, whole: bool = False) -> Axis:
    """An axis whose ticks are multiples of 1, 2 or 5 times a power of ten; ``whole``: of 1 at least."""
    if not low < high:
        room = max(abs(low) / 2, 1.0 if whole else 1e-3)
        low, high = low - room, high + room
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    every = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    every = max(every, 1.0) if whole else every
    first, last = math.floor(low / every), math.ceil(high / every)
    ticks = tuple(k * every for k in range(first, last + 1))
    if whole:  # steps fill the width; values get round numbers at both ends
        return Axis(low, high, start, end, False, tuple(t for t in ticks if low <= t <= high))
    return Axis(ticks[0], ticks[-1], start, end, False, ticks)


def logarithmic_axis(low: float, high: float, start: float, end: float) -> Axis:
    """An axis from positive ``low`` to ``high`` with ticks at 1, 2 and 5 times the powers of ten, or fewer."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, apart in (((1, 2, 5), 1), ((1,), 1), ((1,), 3), ((1,), 10), ((1,), 50)):
        ticks = tuple(f * 10.0**p for p in powers if p % apart == 0 for f in factors)
        inside = tuple(t for t in ticks if low <= t <= high)
        if len(inside) <= 7:
            break
    return Axis(low / 1.05, high * 1.05, start, end, True, inside)


def thinned(points: Points, most: int = MOST) -> list[tuple[float, float]]:
    """At most ``most`` points: means of neighbours; a gap stays one where all of them are gaps."""
    if len(points) <= most:
        return list(points)
    pieces = np.array_split(np.asarray(points, np.float64), most)
    return [(float(piece[:, 0].mean()), _finite_mean(piece[:, 1])) for piece in pieces]


def running_mean(points: Points) -> list[tuple[float, float]]:
    """The mean over a twentieth of the points around each; gaps do not count, and stay gaps."""
    values = np.array([y for _, y in points], np.float64)
    reach = max(1, len(points) // 40)
    near = (values[max(0, k - reach) : k + reach + 1] for k in range(len(values)))
    return [
        (x, _finite_mean(around) if math.isfinite(y) else math.nan) for (x, y), around in zip(points, near, strict=True)
    ]


def _finite_mean(values: np.ndarray) -> float:
    found = values[np.isfinite(values)]
    return float(found.mean()) if found.size else math.nan


def _frame(across: Axis, up: Axis, value: str, width: int, height: int) -> list[str]:
    """Grid, the numbers at the ticks and the titles of the axes."""
    floor, parts = height - BOTTOM, []
    for tick in up.ticks:
        y = up.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4.5, number(tick), "end"))
    for tick in across.ticks:
        x = across.place(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {floor}v5"/>')
        parts.append(_text(x, floor + 20, number(tick), "middle"))
    parts.append(f'<path class="axis" d="M{LEFT} {floor}H{width - RIGHT}"/>')
    parts.append(_text((LEFT + width - RIGHT) / 2, height - 6.0, "step", "middle"))
    middle = (TOP + floor) / 2
    turned = f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">'
    return [*parts, f"{turned}{html.escape(value)}</text>"]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _line(points: Points, across: Axis, up: Axis, name: str) -> str:
    """A path that is lifted at gaps."""
    commands, drawing = [], False
    for x, y in points:
        if math.isfinite(y):
            place = f"{across.place(x):.1f} {up.place(y):.1f}"
            commands.append(f"L{place}" if drawing else f"M{place}h0")  # h0: one point alone is seen as a dot
        drawing = math.isfinite(y)
    return f'<path class="{name}" d="{"".join(commands)}"/>'


def number(value: float) -> str:
    """A short form of a round number."""
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:.6g}"


def _spoken(title: str, known: Points) -> str:
    if not known:
        return f"{title}: nothing to show yet"
    (first, start), (last, end) = known[0], known[-1]
    if len(known) == 1:
        return f"{title}: {start:.4g} at step {first:g}"
    return f"{title}: {start:.4g} at step {first:g}, {end:.4g} at step {last:g}"
