"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Items done, clips, frames per second and the time that is left (from the work that is left)."""

    def __init__(self, items: int, done: int, size: int, *, shown: bool, unit: str = "videos") -> None:
        """items: in all; done: of them before this run; size: work for the others, such as bytes; unit: of items."""
        self._items, self._done, self._size = items, done, max(size, 1)
        self._unit = unit
        self._bytes = self._frames = self._clips = 0
        self._began = self._last_line = time.monotonic()
        self._console = Console(stderr=True, quiet=not shown)
        self._bar: Bar | None = None
        if shown and self._console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("preparing", total=self._size)

    def advance(self, size: int, frames: int, clips: int) -> None:
        """Count one more item."""
        self._done += 1
        self._bytes, self._frames, self._clips = self._bytes + size, self._frames + frames, self._clips + clips
        passed = time.monotonic() - self._began
        made = "" if self._unit in ("clips", "pictures") else f"{self._clips} clips, "
        text = (
            f"{self._done}/{self._items} {self._unit}, {made}{self._frames} frames, "
            f"{self._frames / max(passed, 1e-3):.0f} frames/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=self._bytes, description=text)
        elif self._done == self._items or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = round(passed * (self._size - self._bytes) / max(self._bytes, 1))
            self._console.print(f"prepared {text}, about {left // 60}:{left % 60:02d} left", highlight=False)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
