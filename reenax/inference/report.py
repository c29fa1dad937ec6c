"""Tables of scores, as text and as Markdown; metrics in columns, what is compared in rows."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reenax.inference.scores import METRICS

Scores = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text under titles; the first column is to the left, the others to the right."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Columns of equal width, two spaces between them."""
        lines = (self.titles, *self.rows)
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.titles))]
        return "\n".join(self._line(line, widths) for line in lines)

    def _line(self, line: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = (f"{cell:{'>' if k else '<'}{widths[k]}}" for k, cell in enumerate(line))
        return "  ".join((first, *others)).rstrip()

    def markdown(self) -> str:
        """A Markdown table."""
        rule = tuple("---" if k == 0 else "---:" for k in range(len(self.titles)))
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.titles, rule, *self.rows))


def score_table(first: str, rows: Sequence[tuple[str, Scores]]) -> Table:
    """The table of named scores; a metric is a column when any row has it, "-" where a row has none."""
    names = [m for m in METRICS if any(m in scores for _, scores in rows)]
    titles = tuple(METRICS[m].title for m in names)
    cells = tuple((name, *(shown(m, scores.get(m)) for m in names)) for name, scores in rows)
    return Table((first, *titles), cells)


def shown(metric: str, value: float | None) -> str:
    """A number with the metric's digits, or "-"."""
    return "-" if value is None or math.isnan(value) else f"{value:.{METRICS[metric].digits}f}"


def legend(names: Sequence[str]) -> str:
    """What the metrics are, one line each."""
    return "\n".join(
        f"{METRICS[m].title}: {METRICS[m].unit}; {'higher' if METRICS[m].higher else 'lower'} is better"
        for m in METRICS
        if m in names
    )


def finite(scores: Scores) -> dict[str, float | None]:
    """Scores for JSON, which has no NaN."""
    return {m: None if math.isnan(value) else value for m, value in scores.items()}


def write_text(path: Path, text: str) -> None:
    """Writes a file in one piece: it is there whole or not at all."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text, "utf-8")
    os.replace(aside, path)
