"""What the examples of a training are drawn from: clips or people, all or some of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from data_pipelines.clips import Clips
from reenax.core.errors import UserError

Example = dict[str, Shaped[np.ndarray, "..."]]
"""Pictures, uint8 [h w 3], and labels of them."""


def items(
    clips: Clips, by_identity: bool = False, people: Sequence[str] = (), labels: Sequence[str] = ()
) -> list[list[int]]:
    """Of every item the clips that an example of it can be drawn from: those of a person, or a single clip.

    by_identity: an item is a person (in the order of the names); otherwise an item is a clip.
    people: only their clips; () for everybody's.
    labels: clips without one of these fields are left out.

    Raises UserError naming data.people or data.labels when nothing is left.
    """
    unknown_people(clips, people)
    usable = clips_of(clips, people, labels)
    members: dict[str, list[int]] = {}
    for index in usable:
        members.setdefault(clips.clip_identities[index] if by_identity else str(index), []).append(index)
    return [members[name] for name in sorted(members)] if by_identity else list(members.values())


def clips_of(clips: Clips, people: Sequence[str], labels: Sequence[str] = ()) -> list[int]:
    """The clips of these people (() for everybody) that have all of these fields. Raises UserError: there is none."""
    usable = [
        index
        for index, identity in enumerate(clips.clip_identities)
        if (not people or identity in people) and not clips.lacking[index] & set(labels)
    ]
    if not usable:
        whose = f" of {', '.join(people)}" if people else ""
        raise UserError(
            f"data.labels={tuple(labels)}: no clip{whose} in {clips.directory}, split {clips.split}, has them all; "
            f"prepare videos that do (with sound for 'audio'), or leave labels out"
        )
    return usable


def unknown_people(clips: Clips, people: Sequence[str]) -> None:
    """Raise UserError naming data.people when a name is not among the people of the clips, or is there twice."""
    known = clips.identities
    for name in people:
        if name not in known:
            there = ", ".join(known[:12]) + (f" and {len(known) - 12} others" if len(known) > 12 else "")
            raise UserError(
                f"data.people: {clips.directory}, split {clips.split}, has no {name!r}; it has {there} "
                f"(`--split clips` of `reenax prepare` puts everybody into both splits)"
            )
    if len(set(people)) != len(people):
        raise UserError(f"data.people={tuple(people)}: somebody is named twice; give every name once")
