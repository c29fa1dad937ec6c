"""A picture of examples: titled columns, named rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from reenax.core.pictures import as_bytes
from reenax.inference.labelled import drive_of, reenactor_of
from reenax.inference.protocols import Trial, Trials, frames_of, spread
from reenax.train.runs import Trained

CELL = 128  # smallest side of a picture on the sheet, in pixels
MARGIN, GAP = 190, 4  # room for the rows' names, and between pictures
FONT = 14
ERROR_GAIN = 3
COLUMNS = ("source", "driving", "generated", "truth", f"error x {ERROR_GAIN}")

Picture = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Example:
    """One row.

    Attributes:
        name: lines of text.
        pictures: one per column.
    """

    name: tuple[str, ...]
    pictures: tuple[Picture, ...]


def examples(trained: Trained, trials: Trials, count: int, driver: str = "video", batch_size: int = 8) -> list[Example]:
    """``count`` trials, spread over all; of each the frame in which the driver's picture is farthest from its first."""
    return [_example(trained, trials[index], driver, batch_size) for index in spread(count, len(trials))]


def _example(trained: Trained, trial: Trial, driver: str, batch_size: int) -> Example:
    driving = frames_of(trial.driving, range(trial.frames))
    change = np.abs(driving.astype(np.int16) - driving[:1]).mean(axis=(1, 2, 3))
    frame = int(np.argmax(change))
    # as often as the batches of the evaluation are long: the program is compiled already
    drive = drive_of(trial.driving, [frame] * batch_size, driver, trained.method.reads)
    made = reenactor_of(trained, trial, driver)(drive)
    generated, truth = as_bytes(jax.numpy.clip(made, -1, 1))[0], frames_of(trial.truth, [frame])[0]
    error = np.clip(ERROR_GAIN * np.abs(generated.astype(np.int16) - truth), 0, 255).astype(np.uint8)
    mover = (f"as {trial.driving['identity']}",) if trial.protocol.crosses else ()
    name = (trial.protocol.title, trial.truth["identity"], *mover, f"frame {frame}")
    return Example(name, (trial.source[0], driving[frame], generated, truth, error))


def draw_sheet(rows: Sequence[Example], titles: Sequence[str] = COLUMNS) -> Image.Image:
    """The sheet. Small pictures are enlarged by a whole factor, so that their pixels stay what they are."""
    side = rows[0].pictures[0].shape[0]
    factor = max(1, -(-CELL // side))
    cell, head, font = side * factor, FONT + 10, ImageFont.load_default(FONT)
    sheet = Image.new("RGB", (MARGIN + len(titles) * (cell + GAP), head + len(rows) * (cell + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * (cell + GAP) + cell // 2, head // 2), title, "black", font, anchor="mm")
    for line, row in enumerate(rows):
        top = head + line * (cell + GAP)
        text = "\n".join(_fitting(part, font) for part in row.name)
        draw.multiline_text((6, top + cell // 2), text, "black", font, anchor="lm")
        for column, picture in enumerate(row.pictures):
            large = Image.fromarray(picture).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(large, (MARGIN + column * (cell + GAP), top))
    return sheet


def _fitting(text: str, font: Any) -> str:
    """The text cut to the margin."""
    while font.getlength(text) > MARGIN - 12:
        text = text.rstrip("…")[:-1] + "…"
    return text


def save_picture(path: Path, picture: Image.Image) -> None:
    """Writes a PNG in one piece: it is there whole or not at all."""
    aside = path.with_name(path.name + ".tmp")
    picture.save(aside, "PNG")
    aside.replace(path)
