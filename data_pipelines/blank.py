"""Examples without a dataset: the samplers' own, of blank clips, to learn what a config's batches look like."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from data_pipelines import schema
from data_pipelines.clips import AUDIO_WINDOW, Clips
from data_pipelines.items import Example
from data_pipelines.samplers import make_sampler
from reenax.core.errors import UserError

NOBODY = ("a", "b")
"""Whose clips they are where a config names nobody: two people, for samplers that want partners."""

AXES: Mapping[str, int] = {"expression": 52, "identity": 80, "camera": 3, "light": 27}
"""Lengths that are a dataset's own, where nothing else is said: those of `reenax prepare synthetic`."""


class BlankClips(Clips):
    """Clips with every field that the schema has, of black pictures and zeros; nothing is read.

    size: side of the frames in pixels.
    people: one clip each.
    frames: of every clip.
    axes: lengths of the schema's free axes, such as "attributes", beside `AXES`.
    """

    def __init__(self, size: int, people: Sequence[str], frames: int, axes: Mapping[str, int]) -> None:
        about = {"fields": schema.FIELDS, "digest": "", "size": size}
        rows = [(k, (f"{name}/0000", name, frames, ())) for k, name in enumerate(people)]
        super().__init__(Path("a dataset"), "train", about, rows)
        self.axes = {**AXES, **axes}

    def examples(
        self,
        index: int,
        chosen: Sequence[int],
        labels: Sequence[str] = (),
        audio_window: float = AUDIO_WINDOW,
        pictures: bool = True,
    ) -> tuple[list[UInt8[np.ndarray, "h w 3"]], dict[str, Shaped[np.ndarray, "k ..."]]]:
        """As of any clips. Raises UserError for a label of a length that only a dataset knows."""
        blank = np.zeros((self.size, self.size, 3), np.uint8)
        rows = {name: np.zeros((len(chosen), *self._shape(name, audio_window)), _dtype(name)) for name in labels}
        return [blank for _ in chosen if pictures], rows

    def _shape(self, name: str, audio_window: float) -> tuple[int, ...]:
        if name == "audio":
            return (round(audio_window * schema.AUDIO_RATE),)
        shape = schema.FIELDS[name].shape
        found: list[int] = []
        for axis in shape[1:] if shape[:1] == (schema.TIME,) else shape:
            if isinstance(axis, str) and axis not in self.axes:
                raise UserError(
                    f"data.labels: how long {name!r} is only a dataset says; leave it out, or name one of fixed length"
                )
            found.append(self.axes[axis] if isinstance(axis, str) else axis)
        return tuple(found)


def _dtype(name: str) -> type[np.generic]:
    return schema.FIELDS[name].dtype


def blank_example(data_config: Mapping[str, Any], axes: Mapping[str, int]) -> Example:
    """What the config's sampler draws from blank clips: the shapes and dtypes of every example, and no content.

    data_config: as for `data_pipelines.loader.batches`.
    axes: lengths of the schema's free axes that labels need, beside `AXES`.

    Raises UserError as the sampler does.
    """
    people = tuple(data_config.get("people") or NOBODY)
    frames = max(2, int(data_config.get("frames") or 0))
    clips = BlankClips(int(data_config["size"]), people, frames, axes)
    return make_sampler(clips, data_config)(0, np.random.default_rng(0))
