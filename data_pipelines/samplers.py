"""What one training example is: which frames of which clip, and how they are changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from data_pipelines import transforms
from data_pipelines.clips import Clips
from reenax.core.errors import UserError

Example = dict[str, UInt8[np.ndarray, "h w 3"]]


class Sampler(Protocol):
    """Draws example `index` of len(sampler); all randomness comes from the generator, so that draws can be repeated."""

    def __len__(self) -> int: ...

    def __call__(self, index: int, rng: np.random.Generator) -> Example: ...


@dataclass(frozen=True)
class Pair:
    """Two frames of one clip: {"source", "driving"}, uint8 [h w 3] each (First Order Motion, section 4 of the paper).

    The two indices are uniform with replacement; the earlier frame is the source.

    by_identity: an item is a person, one of whose clips is drawn; otherwise an item is a clip.
    swap: with probability 1/2 the two change places.
    flip: where they did not, with probability 1/2 both are mirrored.
    jitter: strengths of brightness, contrast, saturation, hue; () or {} for none.
    resize: range of the random enlargement before a crop, None for none.
    """

    clips: Clips
    by_identity: bool = False
    swap: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    resize: tuple[float, float] | None = None
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        members: dict[str, list[int]] = {}
        for index, identity in enumerate(self.clips.clip_identities):
            members.setdefault(identity if self.by_identity else str(index), []).append(index)
        items = [members[name] for name in sorted(members)] if self.by_identity else list(members.values())
        object.__setattr__(self, "_items", items)

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        choices = self._items[index]
        # All draws are made whether they are used or not: switching one change off leaves the others as they were.
        clip = choices[int(rng.integers(len(choices)))]
        pair = sorted(rng.integers(self.clips.lengths[clip], size=2).tolist())
        swapped, mirrored = rng.random(2) < 0.5
        pictures = self.clips.frames(clip, pair)
        if self.swap and swapped:
            pictures.reverse()
        elif self.flip and mirrored:
            pictures = transforms.mirror(pictures)
        if self.resize is not None:
            pictures = transforms.resize_and_crop(pictures, self.resize, rng)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        return {"source": pictures[0], "driving": pictures[1]}


def make_sampler(clips: Clips, config: Mapping[str, Any]) -> Sampler:
    """The sampler that a data config describes (`data_pipelines.loader` lists the keys). Raises UserError."""
    config = dict(config.items())
    name = config.get("sampler", "pair")
    if name != "pair":
        raise UserError(f"data.sampler {name!r}: there is only 'pair'")
    size = config.get("size", clips.size)
    if size != clips.size:
        raise UserError(
            f"{clips.directory}: the frames are {clips.size}x{clips.size}, data.size is {size}; "
            f"prepare the videos with --size {size}"
        )
    return Pair(
        clips,
        by_identity=bool(config.get("by_identity", False)),
        swap=bool(config.get("swap", False)),
        flip=bool(config.get("flip", False)),
        jitter=_jitter(config.get("jitter")),
        resize=_resize(config.get("resize")),
    )


def _jitter(value: Any) -> dict[str, float] | None:
    if not value:
        return None
    strength = {key: float(amount) for key, amount in value.items() if amount}
    for key, amount in strength.items():
        limit = 0.5 if key == "hue" else 1.0
        if key not in transforms.JITTERS or not 0 <= amount <= limit:
            raise UserError(f"data.jitter.{key}={amount}: give {', '.join(transforms.JITTERS)} from 0 to 1 (hue 0.5)")
    return strength or None


def _resize(value: Any) -> tuple[float, float] | None:
    if not value:
        return None
    low, high = (float(edge) for edge in value) if len(value) == 2 else (0.0, 0.0)
    if not 0.1 <= low <= high <= 10:
        raise UserError(f"data.resize={value}: give two factors, low and high, such as (0.9, 1.1)")
    return low, high
