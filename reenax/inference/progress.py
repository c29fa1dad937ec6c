"""How far a command is: a bar with the rate and the time left on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")


class _RateColumn(ProgressColumn):
    """Items per second, once there are some."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "")


def tracked(
    items: Iterable[T], total: int | None, doing: str, unit: str, console: Console | None = None
) -> Iterator[T]:
    """The same items, while a bar shows how many have passed.

    Args:
        items: what is worked on.
        total: how many there are, None when that is not known.
        doing: what is being done, for example "animating".
        unit: what the items are, for example "frames".
        console: where to show it; on standard error by default.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=doing)
