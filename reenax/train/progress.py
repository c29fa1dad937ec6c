"""How far a training is: a bar on a terminal, plain lines elsewhere; steps/s, images/s and time left in both."""

import collections
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar


class Progress:
    """Counts steps of a run.

    Args:
        start: steps done before.
        total: steps at the end.
        batch_size: images per step.
        shown: whether anything is printed; one of several processes speaks.
    """

    def __init__(self, start: int, total: int, batch_size: int, *, shown: bool = True):
        self._total, self._batch_size = total, batch_size
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True, quiet=not shown)
        self._saves: list[float] = []
        self._times: collections.deque[tuple[int, float]] = collections.deque(maxlen=100)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=start, rate="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Tells that a step is done and what came out of it."""
        self._times.append((step, time.perf_counter()))
        self._bar.update(self._task, completed=step, rate=self._rate_text(step))

    def saved(self, seconds: float) -> None:
        """Tells how long the training waited for a checkpoint."""
        self._saves.append(seconds)

    def rates(self) -> dict[str, float]:
        """Steps and images per second over the last hundred steps; seconds of waiting for the newest checkpoint."""
        waited = {"speed/save_seconds": self._saves[-1]} if self._saves else {}
        if len(self._times) < 2:
            return waited
        (first, began), (last, now) = self._times[0], self._times[-1]
        per_second = (last - first) / max(now - began, 1e-9)
        return {"speed/steps_per_s": per_second, "speed/images_per_s": per_second * self._batch_size, **waited}

    def _rate_text(self, step: int) -> str:
        rates = self.rates()
        if "speed/steps_per_s" not in rates:
            return ""
        left = (self._total - step) / rates["speed/steps_per_s"]
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        eta = f"{hours}:{minutes:02d}:{seconds:02d}"
        per_step, per_image = rates["speed/steps_per_s"], rates["speed/images_per_s"]
        return f"{per_step:.2f} steps/s  {per_image:.1f} images/s  ETA {eta}"

    def line(self, step: int, values: Mapping[str, float]) -> None:
        """One line with the losses."""
        losses = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if k.endswith("/loss"))
        self.say(f"step {step}/{self._total}  {self._rate_text(step)}  {losses}")

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, markup=False)
