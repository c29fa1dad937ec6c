"""What one training example is: which frames of which clip, and how they are changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from data_pipelines import schema, transforms
from data_pipelines.acted import Acted
from data_pipelines.clips import AUDIO_WINDOW, Clips
from data_pipelines.items import Example, clips_of, items, unknown_people
from reenax.core.errors import UserError

SAMPLERS = ("pair", "labelled", "window", "people", "acted")

UNMOVED = frozenset({"action_units", "attributes", "audio", "fps", "timestamps"})
"""Fields that say the same of a frame and of its mirror image."""


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
    labels: fields of the records; no change of place (flip, resize) is possible with them, but `UNMOVED`. Clips that
        lack one of them are left out.
    people: only these, () for everybody.
    audio_window: seconds of the label "audio", int16 [n], around a frame.
    """

    clips: Clips
    by_identity: bool = False
    swap: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    resize: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    audio_window: float = AUDIO_WINDOW
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_items", items(self.clips, self.by_identity, self.people, self.labels))

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
        pictures, labels = self.clips.examples(clip, pair, self.labels, self.audio_window)
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
    """One frame and what is known of it: {"source": uint8 [h w 3], field: its row, ...}.

    For networks that read faces and, with targets, for those that learn from pictures without counterpart to give a
    face other labels (GANimation, StarGAN).

    targets: also what is known of another frame, drawn like the first one and independently of it: {"target_<field>"}.
    flip: with probability 1/2 the picture is mirrored.
    clips, by_identity, jitter, labels, people, audio_window: as for `Pair`.
    """

    clips: Clips
    labels: tuple[str, ...]
    by_identity: bool = False
    targets: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    people: tuple[str, ...] = ()
    audio_window: float = AUDIO_WINDOW
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_items", items(self.clips, self.by_identity, self.people, self.labels))

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        pictures, labels = self._rows(*self._draw(index, rng))
        target = self._draw(int(rng.integers(len(self._items))), rng)
        if rng.random() < 0.5 and self.flip:
            pictures = transforms.mirror(pictures)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        example = {"source": pictures[0], **{name: rows[0] for name, rows in labels.items()}}
        if self.targets:
            example |= {f"target_{name}": rows[0] for name, rows in self._rows(*target, pictures=False)[1].items()}
        return example

    def _draw(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """The numbers of a clip of an item, and of one of its frames."""
        choices = self._items[index]
        clip = choices[int(rng.integers(len(choices)))]
        return clip, int(rng.integers(self.clips.lengths[clip]))

    def _rows(self, clip: int, frame: int, pictures: bool = True) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        return self.clips.examples(clip, [frame], self.labels, self.audio_window, pictures=pictures)


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one clip: {"frames": uint8 [t h w 3]}, for networks that go on with a motion.

    A clip that is too short is left out.

    frames: length of the window.
    clips, by_identity, jitter, people: as for `Pair`; all frames of a window are changed alike.
    flip: with probability 1/2 the window is mirrored.
    """

    clips: Clips
    frames: int
    by_identity: bool = False
    flip: bool = False
    jitter: Mapping[str, float] | None = None
    people: tuple[str, ...] = ()
    _items: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lengths = self.clips.lengths
        given = items(self.clips, self.by_identity, self.people)
        long = [[i for i in item if lengths[i] >= self.frames] for item in given]
        object.__setattr__(self, "_items", [item for item in long if item])
        if not self._items:
            raise UserError(
                f"data.frames={self.frames}: the longest clip of {self.clips.directory} has "
                f"{max(lengths[i] for item in given for i in item)} frames; take fewer, or prepare longer clips"
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


@dataclass(frozen=True)
class People:
    """A frame of everybody: {"frames": uint8 [n h w 3], field: [n ...], ...}, drawn independently of each other.

    For networks that belong to certain people (ReenactGAN). One epoch is as many examples as the one has clips who
    has the most.

    people: who, in the order of the first axis; at least two.
    clips, jitter, labels, audio_window: as for `Pair`; all frames of an example are changed alike.
    """

    clips: Clips
    people: tuple[str, ...]
    labels: tuple[str, ...] = ()
    jitter: Mapping[str, float] | None = None
    audio_window: float = AUDIO_WINDOW
    _clips: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.people) < 2:
            raise UserError(
                f"data.people={self.people}: the sampler 'people' needs two or more, such as "
                f"{self.clips.identities[:2]}"
            )
        unknown_people(self.clips, self.people)
        object.__setattr__(self, "_clips", [clips_of(self.clips, (name,), self.labels) for name in self.people])

    def __len__(self) -> int:
        return max(map(len, self._clips))

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        del index  # nobody's clips come in the order of another one's
        pictures, rows = [], []
        for choices in self._clips:
            clip = choices[int(rng.integers(len(choices)))]
            frame = int(rng.integers(self.clips.lengths[clip]))
            shown, said = self.clips.examples(clip, [frame], self.labels, self.audio_window)
            pictures += shown
            rows.append(said)
        if self.jitter:
            pictures = transforms.colour_jitter(pictures, self.jitter, rng)
        labels = {name: np.concatenate([said[name] for said in rows]) for name in self.labels}
        return {"frames": np.stack(pictures), **labels}


def make_sampler(clips: Clips, config: Mapping[str, Any]) -> Sampler:
    """The sampler that a data config describes (`data_pipelines.loader` lists the keys). Raises UserError."""
    config = dict(config.items())
    name = config.get("sampler", "pair")
    if name not in SAMPLERS:
        raise UserError(f"data.sampler {name!r}: there are {', '.join(map(repr, SAMPLERS[:-1]))} and {SAMPLERS[-1]!r}")
    size = config.get("size", clips.size)
    if size != clips.size:
        raise UserError(
            f"{clips.directory}: the frames are {clips.size}x{clips.size}, data.size is {size}; "
            f"prepare the videos with --size {size}"
        )
    labels, people = _labels(clips, tuple(config.get("labels") or ())), tuple(config.get("people") or ())
    by_identity, jitter = bool(config.get("by_identity", False)), _jitter(config.get("jitter"))
    flip, resize = bool(config.get("flip", False)), _resize(config.get("resize"))
    window = _audio_window(config.get("audio_window", AUDIO_WINDOW))
    moved = set(labels) if resize else set(labels) - UNMOVED
    if moved and (flip or resize):
        raise UserError(f"data.labels: {min(moved)!r} does not follow data.flip and data.resize; switch these off")
    _only_known(name, config)
    if name == "labelled":
        if not labels:
            raise UserError("data.labels is empty: the sampler 'labelled' needs fields, such as ('landmarks',)")
        targets = bool(config.get("targets", False))
        return Labelled(clips, labels, by_identity, targets, flip, jitter, people, window)
    if name == "window":
        frames = int(config.get("frames") or 0)
        if frames < 2:
            raise UserError(f"data.frames={frames}: the sampler 'window' needs a length of 2 frames or more")
        return Window(clips, frames, by_identity=by_identity, flip=flip, jitter=jitter, people=people)
    if name == "people":
        return People(clips, people, labels, jitter, window)
    if name == "acted":
        return Acted(clips, labels, by_identity, jitter, people)
    swap = bool(config.get("swap", False))
    return Pair(clips, by_identity, swap, flip, jitter, resize, labels, people, window)


_MEANINGLESS = {
    "pair": ("targets",),
    "labelled": (),
    "window": ("labels", "resize", "swap", "targets"),
    "people": ("by_identity", "flip", "resize", "swap", "targets"),
    "acted": ("flip", "resize", "swap", "targets"),
}
"""Keys that a sampler cannot follow."""


def _only_known(name: str, config: Mapping[str, Any]) -> None:
    for key in _MEANINGLESS[name]:
        if config.get(key):
            raise UserError(f"data.{key}={config[key]}: the sampler {name!r} knows no data.{key}; switch it off")


def _audio_window(value: Any) -> float:
    if not 0.01 <= float(value) <= 10:
        raise UserError(f"data.audio_window={value}: give the seconds of sound around a frame, from 0.01 to 10")
    return float(value)


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
