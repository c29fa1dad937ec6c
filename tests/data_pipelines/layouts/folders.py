"""Pictures that the tests of the layouts put into folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.clips import decode_clip, open_clips
from data_pipelines.layouts.prepare import prepare_layout
from data_pipelines.prepare import PrepareReport

SIZE = 16


def write_picture(path: Path, colour: tuple[int, int, int], width: int = SIZE, height: int = SIZE) -> Path:
    """A picture of one colour, with a white upper left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), colour, np.uint8)
    pixels[: height // 2, : width // 2] = 255
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    return path


def colour_of(number: int) -> tuple[int, int, int]:
    """Tells pictures apart."""
    return 20 * (number % 12), 200 - 15 * (number % 13), (37 * number) % 200


def run(folder: Path, out: Path, layout: str, **options) -> PrepareReport:
    return prepare_layout(folder, out, layout, **{"size": SIZE, "progress": False, **options})


def records_of(out: Path) -> Mapping[str, Mapping[str, dict[str, Any]]]:
    """Split -> clip_id -> record, with the colour of every frame's lower right corner as `colours`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for split in ("train", "test"):
        if any(path.name.startswith(f"video_folder-{split}") for path in out.iterdir()):
            clips = open_clips(out, split)
            found[split] = {clips.clip_ids[at]: clips[at] for at in range(len(clips))}
            for record in found[split].values():
                record["colours"] = decode_clip(record)[:, -3, -3].astype(int)
    return found


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir() if path.is_file()}
