"""Examples from people of whom every one acts the same numbered expressions, views and gazes (the field "acted").

Where two people do the same, one of them is the exact truth of what the other one's shape becomes when it takes over
an expression: what a network that carries landmarks from person to person is trained with (FReeNet, section 3.2 of the
paper).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_pipelines import transforms
from data_pipelines.clips import Clips
from data_pipelines.items import Example, items
from reenax.core.errors import UserError


class Acting(NamedTuple):
    """What a frame shows: a row of the field "acted"."""

    expression: int
    view: int
    gaze: int


NEUTRAL = Acting(0, 0, 0)


class Place(NamedTuple):
    """A frame of a clip, by numbers."""

    clip: int
    frame: int


Shown = Mapping[Acting, list[Place]]
"""Where somebody is seen acting something."""

PICTURES = ("source", "driving", "other")


@dataclass(frozen=True)
class Acted:
    """Three pictures of two people a and b, and labels of what these and others of their frames show.

    "source", "driving": uint8 [h w 3], any two frames of a (an item is a clip, from which the driving frame is).
    "other": any frame of b, who is anybody else.

    With L standing for every one of the labels, of a:
    "L_driving": what L says of the driving frame;
    "L_driving_neutral": expression 0, view and gaze of the driving frame;
    "L_source_neutral": expression, view and gaze 0;
    and of b:
    "L_other": of the picture "other";
    "L_other_neutral": expression, view and gaze 0;
    "L_neutral": expression 0, any view, gaze 0;
    "L_truth": the driving frame's expression, view and gaze of "L_neutral";
    "L_random": any frame.

    Where several frames show the same, one of them is drawn. b is drawn among those who show the driving frame's
    expression as "L_truth" needs it.

    labels: fields of the records, commonly ("landmarks",).
    by_identity, jitter, people: as for `data_pipelines.samplers.Pair`; the three pictures are changed alike.

    Raises UserError naming the person and the numbers when a frame is missing that every draw needs.
    """

    clips: Clips
    labels: tuple[str, ...]
    by_identity: bool = False
    jitter: Mapping[str, float] | None = None
    people: tuple[str, ...] = ()
    _items: list[list[int]] = field(init=False, repr=False)
    _shown: Mapping[str, Shown] = field(init=False, repr=False)
    _acting: Mapping[int, list[Acting]] = field(init=False, repr=False)
    _clips: Mapping[str, list[int]] = field(init=False, repr=False)
    _views: Mapping[str, Mapping[int, list[int]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if "acted" not in self.clips.fields:
            raise UserError(
                f"data.sampler='acted': {self.clips.directory} does not say what is acted (it has no field 'acted'); "
                f"make it with `reenax prepare synthetic --acted N`, or by a layout that knows"
            )
        if not self.labels:
            raise UserError("data.labels is empty: the sampler 'acted' needs fields, such as ('landmarks',)")
        drawn_from = items(self.clips, self.by_identity, self.people, self.labels)
        acting: dict[int, list[Acting]] = {}
        shown: dict[str, dict[Acting, list[Place]]] = {}
        clips: dict[str, list[int]] = {}
        for clip in (clip for item in drawn_from for clip in item):
            _, rows = self.clips.examples(clip, range(self.clips.lengths[clip]), ("acted",), pictures=False)
            acting[clip] = [Acting(*row) for row in rows["acted"].tolist()]
            name = self.clips.clip_identities[clip]
            clips.setdefault(name, []).append(clip)
            of_person = shown.setdefault(name, {})
            for frame, what in enumerate(acting[clip]):
                of_person.setdefault(what, []).append(Place(clip, frame))
        object.__setattr__(self, "_items", drawn_from)
        object.__setattr__(self, "_acting", acting)
        object.__setattr__(self, "_shown", dict(sorted(shown.items())))
        object.__setattr__(self, "_clips", clips)
        object.__setattr__(self, "_views", {name: _views(of_person) for name, of_person in shown.items()})
        self._check()

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, index: int, rng: np.random.Generator) -> Example:
        def one_of(choices: Sequence) -> int:
            return int(rng.integers(len(choices)))

        def frame_of(name: str) -> Place:
            clip = self._clips[name][one_of(self._clips[name])]
            return Place(clip, one_of(self._acting[clip]))

        def showing(name: str, what: Acting) -> Place:
            places = self._shown[name][what]
            return places[one_of(places)]

        clip = self._items[index][one_of(self._items[index])]
        driving = Place(clip, one_of(self._acting[clip]))
        a, what = self.clips.clip_identities[clip], self._acting[clip][driving.frame]
        others = self._partners(a, what.expression)
        b = others[one_of(others)]
        views = self._views[b][what.expression]
        view = views[one_of(views)]
        places = {
            "source": frame_of(a),
            "driving": driving,
            "other": frame_of(b),
            "driving_neutral": showing(a, what._replace(expression=0)),
            "source_neutral": showing(a, NEUTRAL),
            "other_neutral": showing(b, NEUTRAL),
            "neutral": showing(b, Acting(0, view, 0)),
            "truth": showing(b, Acting(what.expression, view, 0)),
            "random": frame_of(b),
        }
        example = self._read(places)
        if self.jitter:
            example |= zip(
                PICTURES,
                transforms.colour_jitter([example[role] for role in PICTURES], self.jitter, rng),
                strict=True,
            )
        return example

    def _read(self, places: Mapping[str, Place]) -> Example:
        """The pictures of three frames, and the labels of all but the source; every clip is opened twice at most."""
        example: Example = {}
        for clip in sorted({place.clip for place in places.values()}):
            here = {role: place.frame for role, place in places.items() if place.clip == clip}
            pictured = [role for role in here if role in PICTURES]
            if pictured:
                pictures = self.clips.frames(clip, [here[role] for role in pictured])
                example |= zip(pictured, pictures, strict=True)
            told = [role for role in here if role != "source"]
            if told:
                _, rows = self.clips.examples(clip, [here[role] for role in told], self.labels, pictures=False)
                example |= {f"{name}_{role}": rows[name][k] for name in self.labels for k, role in enumerate(told)}
        return example

    def _partners(self, name: str, expression: int) -> list[str]:
        """Everybody else who shows an expression and, in the same view, none."""
        return [other for other in self._shown if other != name and expression in self._views[other]]

    def _check(self) -> None:
        where = f"{self.clips.directory}, split {self.clips.split}"
        if len(self._shown) < 2:
            raise UserError(
                f"data.sampler='acted' needs two people, {where} has {', '.join(self._shown)}"
                f"{' among data.people' if self.people else ''}; take more"
            )
        for name, shown in self._shown.items():
            for needed in [NEUTRAL, *(what._replace(expression=0) for what in shown)]:
                if needed not in shown:
                    raise UserError(
                        f"{where}: {name} has no frame of expression {needed.expression}, view {needed.view}, gaze "
                        f"{needed.gaze}, which data.sampler='acted' needs; leave {name} out with data.people, or add it"
                    )
            for expression in sorted({what.expression for what in shown}):
                if not self._partners(name, expression):
                    raise UserError(
                        f"{where}: nobody but {name} has a frame of expression {expression} with gaze 0, and one of "
                        f"expression 0 in its view, which data.sampler='acted' needs; leave {name} out with data.people"
                    )


def _views(shown: Shown) -> dict[int, list[int]]:
    """For every expression of somebody the views in which it is shown, and none beside it, both with gaze 0."""
    views: dict[int, list[int]] = {}
    for what in sorted(shown):
        if what.gaze == 0 and Acting(0, what.view, 0) in shown:
            views.setdefault(what.expression, []).append(what.view)
    return views
