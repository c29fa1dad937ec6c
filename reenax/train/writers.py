"""Where the numbers and pictures of a training go: metrics.jsonl always, wandb where asked, PNG and MP4 files."""

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.video_writer import write_video
from reenax.core.pictures import as_bytes

log = logging.getLogger("reenax")


def sheet(columns: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "h w 3"]:
    """Named columns of pictures in [-1, 1], one row per example, as one picture."""
    return np.concatenate([np.concatenate(list(as_bytes(c)), axis=0) for c in columns.values()], axis=1)


class Writers:
    """Writes what a training reports.

    Args:
        folder: the run folder.
        config: the resolved config; ``config.wandb`` says whether and how wandb is used.
        start: rows of later steps, left by a run that was cut off, are dropped from ``metrics.jsonl``.
        facts: what the run was made with, for wandb.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], start: int, facts: Mapping[str, Any] | None = None):
        self._folder = Path(folder)
        (self._folder / "samples").mkdir(parents=True, exist_ok=True)
        self._path = self._folder / "metrics.jsonl"
        _truncate(self._path, start)
        self._file = self._path.open("a")
        self._wandb = _start_wandb(self._folder, config, facts or {})

    def go_back(self, step: int) -> None:
        """Drops the rows of later steps. wandb keeps what it has, and refuses numbers of those steps."""
        self._file.close()
        _truncate(self._path, step)
        self._file = self._path.open("a")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One row of numbers."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def sheet(self, step: int, columns: Mapping[str, np.ndarray]) -> Path:
        """A sample sheet: ``samples/STEP.png``, its columns named in ``samples/columns.txt``."""
        path = self._folder / "samples" / f"{step:08d}.png"
        Image.fromarray(sheet(columns)).save(path)
        (self._folder / "samples" / "columns.txt").write_text(" | ".join(columns) + "\n")
        if self._wandb is not None:
            import wandb

            self._wandb.log({"samples": wandb.Image(str(path), caption=" | ".join(columns))}, step=step)
        return path

    def clip(self, step: int, frames: UInt8[np.ndarray, "t h w 3"], fps: float) -> Path:
        """A video of pictures: ``samples/STEP.mp4``."""
        path = self._folder / "samples" / f"{step:08d}.mp4"
        write_video(path, frames, fps)
        if self._wandb is not None:
            import wandb

            self._wandb.log({"clip": wandb.Video(str(path), format="mp4")}, step=step)
        return path

    def close(self) -> None:
        self._file.close()
        if self._wandb is not None:
            self._wandb.finish()


class NoWriters:
    """Stands for `Writers` in the processes of a training that do not write."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def go_back(self, step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _truncate(path: Path, start: int) -> None:
    """Keeps the rows up to step ``start``; the last row of a killed run may be half written."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= start:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    temporary.replace(path)


def _start_wandb(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    settings = config["wandb"]
    if settings["mode"] == "disabled":
        return None
    import wandb

    common = {
        "project": settings["project"],
        "name": folder.name,
        "dir": str(folder),
        "config": {**config, "facts": dict(facts)},
    }
    common |= {"id": f"reenax-{zlib.crc32(str(folder.absolute()).encode()):08x}", "resume": "allow"}
    if settings["mode"] == "online":
        try:
            return wandb.init(mode="online", settings=wandb.Settings(init_timeout=20), **common)
        except (wandb.Error, TimeoutError) as error:
            log.warning("wandb cannot be reached (%s); writing offline, run `wandb sync` later", error)
    return wandb.init(mode="offline", **common)
