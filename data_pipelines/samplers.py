"""What one training example is: which frames of which clip, and how they are changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Shaped

from data_pipelines import schema, transforms
from data_pipelines.clips import Clips
from reenax.core.errors import UserError

Example = dict[str, Shaped[np.ndarray, "..."]]
"""Pictures, uint8 [h w 3], and labels of them."""


class Sampler(Protocol):
    """Draws example `index` of len(sampler); all randomness comes from the generator, so that draws can be repeated."""

    def __len__(self) -> int: ...

    def __call__(self, index: int, rng: np.random.Generator) -> Example: ...


@dataclass(frozen=True)
class Pair:
    """Two frames of one clip: {"source", "driving"}, uint8 [h w 3] each (First Order Motion, section 4 of the paper).

    With labels also what they say of each frame: {"source_landmarks", "driving_landmarks"} for "landmarks". The two
    indices are uniform with replacement; the earlier frame is the source.

    by_identity: an item is a person, one of whose clips is drawn; otherwise an item is a clip.
    swap: with probability 1/2 the two change places.
    flip: where they did not, with probability 1/2 both are mirrored.
    jitter: strengths of brightness, contrast, saturation, hue; () or {} for none.
    resize: range of the random enlargement before a crop, None for none.
    labels: fields of the records; no change of place (flip, resize) is possible with them.
    """

    clips: Clips
    by_identity: bool = False
    swap: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    resize: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_items", _items(self.clips, self.by_identity))

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        choices = self._items[index]
        # All draws are made whether they are used or not: switching one change off leaves the others as they were.
        clip = choices[int(rng.integers(len(choices)))]
        pair = sorted(rng.integers(self.clips.lengths[clip], size=2).tolist())
        swapped, mirrored = rng.random(2) < 0.5
        if self.swap and swapped:
            pair.reverse()
        pictures, labels = self.clips.examples(clip, pair, self.labels)
        if self.flip and mirrored and not (self.swap and swapped):
            pictures = transforms.mirror(pictures)
        if self.resize is not None:
            pictures = transforms.resize_and_crop(pictures, self.resize, rng)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        named = {
            f"{role}_{name}": rows[k] for name, rows in labels.items() for k, role in enumerate(("source", "driving"))
        }
        return {"source": pictures[0], "driving": pictures[1], **named}


@dataclass(frozen=True)
class Labelled:
    """One frame and what is known of it: {"source": uint8 [h w 3], field: its row, ...}, for networks that read faces.

    clips, by_identity, jitter, labels: as for `Pair`.
    """

    clips: Clips
    labels: tuple[str, ...]
    by_identity: bool = False
    jitter: Mapping[str, float] | None = None
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_items", _items(self.clips, self.by_identity))

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        choices = self._items[index]
        clip = choices[int(rng.integers(len(choices)))]
        frame = int(rng.integers(self.clips.lengths[clip]))
        pictures, labels = self.clips.examples(clip, [frame], self.labels)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        return {"source": pictures[0], **{name: rows[0] for name, rows in labels.items()}}


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one clip: {"frames": uint8 [t h w 3]}, for networks that go on with a motion.

    A clip that is too short is left out.

    frames: length of the window.
    clips, by_identity, jitter: as for `Pair`; all frames of a window are changed alike.
    flip: with probability 1/2 the window is mirrored.
    """

    clips: Clips
    frames: int
    by_identity: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        items, lengths = _items(self.clips, self.by_identity), self.clips.lengths
        long = [[i for i in item if lengths[i] >= self.frames] for item in items]
        object.__setattr__(self, "_items", [item for item in long if item])
        if not self._items:
            raise UserError(
                f"data.frames={self.frames}: the longest clip of {self.clips.directory} has "
                f"{max(lengths)} frames; take fewer, or prepare longer clips"
            )

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        choices = self._items[index]
        clip = choices[int(rng.integers(len(choices)))]
        first = int(rng.integers(self.clips.lengths[clip] - self.frames + 1))
        mirrored = rng.random() < 0.5
        pictures, _ = self.clips.examples(clip, range(first, first + self.frames))
        if self.flip and mirrored:
            pictures = transforms.mirror(pictures)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        return {"frames": np.stack(pictures)}


def _items(clips: Clips, by_identity: bool) -> list[list[int]]:
    """What one example is drawn from: the clips of a person, or a single clip."""
    members: dict[str, list[int]] = {}
    for index, identity in enumerate(clips.clip_identities):
        members.setdefault(identity if by_identity else str(index), []).append(index)
    return [members[name] for name in sorted(members)] if by_identity else list(members.values())


def make_sampler(clips: Clips, config: Mapping[str, Any]) -> Sampler:
    """The sampler that a data config describes (`data_pipelines.loader` lists the keys). Raises UserError."""
    config = dict(config.items())
    name = config.get("sampler", "pair")
    if name not in ("pair", "labelled", "window"):
        raise UserError(f"data.sampler {name!r}: there are 'pair', 'labelled' and 'window'")
    size = config.get("size", clips.size)
    if size != clips.size:
        raise UserError(
            f"{clips.directory}: the frames are {clips.size}x{clips.size}, data.size is {size}; "
            f"prepare the videos with --size {size}"
        )
    labels = _labels(clips, tuple(config.get("labels") or ()))
    by_identity, jitter = bool(config.get("by_identity", False)), _jitter(config.get("jitter"))
    flip, resize = bool(config.get("flip", False)), _resize(config.get("resize"))
    if labels and (flip or resize):
        raise UserError("data.labels: labels do not follow data.flip and data.resize; switch these off")
    if name == "labelled":
        if not labels:
            raise UserError("data.labels is empty: the sampler 'labelled' needs fields, such as ('landmarks',)")
        return Labelled(clips, labels, by_identity=by_identity, jitter=jitter)
    if name == "window":
        frames = int(config.get("frames") or 0)
        if frames < 2:
            raise UserError(f"data.frames={frames}: the sampler 'window' needs a length of 2 frames or more")
        if labels or resize or config.get("swap"):
            raise UserError("the sampler 'window' knows no data.labels, data.resize and data.swap; switch these off")
        return Window(clips, frames, by_identity=by_identity, flip=flip, jitter=jitter)
    return Pair(
        clips,
        by_identity=by_identity,
        swap=bool(config.get("swap", False)),
        flip=flip,
        jitter=jitter,
        resize=resize,
        labels=labels,
    )


def _labels(clips: Clips, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in clips.fields:
            raise UserError(
                f"data.labels: {clips.directory} has no {name!r}; it has {', '.join(sorted(clips.fields))}. "
                f"`reenax prepare synthetic` makes datasets that have every label"
            )
        if schema.FIELDS[name].kind != "array":
            raise UserError(f"data.labels: {name!r} is no array of numbers")
    return names


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
