"""A world of discs: a person is a colour, a motion is a path; so person A doing what B does is known exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from data_pipelines import building, schema

SIZE, FRAMES = 32, 6
LABELS = ("landmarks", "pose", "expression", "identity_coefficients")
FIELDS = frozenset({*schema.REQUIRED, *LABELS, "source_clip", "driving_clip"})
PEOPLE = ("anna", "bert", "cleo")


def coefficients(person: str) -> np.ndarray:
    return np.random.default_rng(PEOPLE.index(person)).normal(size=80).astype(np.float32)


def centres(person: str, take: int) -> np.ndarray:
    """Where the disc is, [t 2] in [-1, 1]."""
    return np.random.default_rng([7, PEOPLE.index(person), take]).uniform(-0.3, 0.3, (FRAMES, 2))


def faces(middle: np.ndarray) -> np.ndarray:
    """68 points about every centre, [t 68 2]; the inner lips part as the disc moves to the right."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    ring = 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = middle[:, None] + ring[None]
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[:, upper] = middle + np.array([0, 0.2])
        points[:, lower] = points[:, upper] + np.stack([0 * middle[:, 0], 0.1 + 0.2 * middle[:, 0]], axis=-1)
    return points.astype(np.float32)


def pictures(person: str, middle: np.ndarray) -> list[bytes]:
    colour = np.random.default_rng([9, PEOPLE.index(person)]).uniform(0, 255, 3)
    axis = np.linspace(-1, 1, SIZE)
    x, y = np.meshgrid(axis, axis)
    made = []
    for u, v in middle:
        inside = np.clip(8 * (0.45 - np.hypot(x - u, y - v)), 0, 1)[..., None]
        picture = (100 + 50 * x[..., None]) * (1 - inside) + colour * inside
        made.append(simplejpeg.encode_jpeg(picture.round().astype(np.uint8), 95, "RGB", "444"))
    return made


def record(person: str, mover: str, take: int, **names: str) -> dict[str, Any]:
    middle = centres(mover, take)
    expression = np.zeros((FRAMES, 52), np.float32)
    expression[:, 17] = 0.5 + middle[:, 0]
    clip_id = f"{person}{take}" if person == mover else f"{person}_as_{mover}"
    return {
        "clip_id": clip_id,
        "identity": person,
        "frames": pictures(person, middle),
        "fps": np.float32(25),
        "timestamps": np.arange(FRAMES) / 25,
        "bbox": np.array([0, 0, SIZE, SIZE], np.float32),
        "landmarks": faces(middle),
        "pose": np.concatenate([0 * middle, middle, 0 * middle], axis=-1).astype(np.float32),
        "expression": expression,
        "identity_coefficients": coefficients(person),
        "source_clip": clip_id,
        "driving_clip": clip_id,
        **names,
    }


def build_world(folder: Path, *, cross: bool = True, fields: frozenset[str] = FIELDS, **names: str) -> Path:
    """Two clips of each person; with ``cross`` also every person doing the second clip of the next one."""
    plain = [record(person, person, take) for person in PEOPLE for take in (0, 1)]
    pairs = list(zip(PEOPLE, (*PEOPLE[1:], PEOPLE[0]), strict=True))
    crossed = [record(a, b, 1, **{"source_clip": f"{a}0", "driving_clip": f"{b}1", **names}) for a, b in pairs]
    splits = {"train": lambda: iter(plain), "test": lambda: iter(plain)} | (
        {"cross": lambda: iter(crossed)} if cross else {}
    )
    building.build(folder, splits, {}, SIZE, fields)
    return folder
