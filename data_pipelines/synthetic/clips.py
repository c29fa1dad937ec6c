"""From a person and a take to a record with every field of the schema, exact."""

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from data_pipelines import schema
from data_pipelines.cutting import JPEG_QUALITY
from data_pipelines.synthetic import acting
from data_pipelines.synthetic.life import Performance, perform
from data_pipelines.synthetic.people import Person, person
from reenax.core.errors import UserError
from reenax.geometry.camera import Camera
from reenax.geometry.head.action_units import action_units
from reenax.geometry.head.head import SyntheticHead, synthetic_head
from reenax.geometry.head.parameters import Materials, Parameters
from reenax.geometry.head.pose import posed_landmarks
from reenax.geometry.head.render import render

HALF_FIELD, DISTANCE, HEIGHT = 12.5, 75.0, -1.0
"""Of the camera, in centimetres: the head fills the picture, with a little room to move."""

CAMERA = np.array([HALF_FIELD, DISTANCE, HEIGHT], np.float32)

PICTURES = ("frames", "mask", "parts")
PER_FRAME = (*PICTURES, "landmarks", "landmarks_3d", "landmarks_mean")

_ACTED, _SPOKEN = frozenset({"acted", "attributes"}), frozenset({"audio", "phonemes", "phoneme_times"})
TALKING_FIELDS = frozenset(schema.FIELDS) - _ACTED - {"landmarks_106"}
ACTED_FIELDS = TALKING_FIELDS - _SPOKEN | _ACTED
"""What the records of `clip_record` have."""


@dataclass(frozen=True)
class Settings:
    """All that decides what a clip looks like.

    seconds, fps: length and rate of clips in which people talk.
    size, supersampling: see `render`.
    acted, views: if not 0, how many expressions people act instead, and under how many views (see `acting`).
    """

    seed: int
    seconds: float
    fps: float
    size: int
    supersampling: int
    acted: int = 0
    views: int = 1

    @property
    def frames(self) -> int:
        """In a clip."""
        return self.acted * self.views or max(2, round(self.seconds * self.fps))


@dataclass(frozen=True)
class Take:
    """One clip: somebody's looks, and whose movements they show (their own, but in the split "cross").

    looks, moves: numbers of people; number: which take of the one who moves.
    clip_id, source_clip, driving_clip: see `data_pipelines.schema`.
    """

    looks: int
    moves: int
    number: int
    clip_id: str
    source_clip: str
    driving_clip: str


def clip_record(take: Take, settings: Settings) -> dict[str, Any]:
    """The record of a take; depends on nothing but the two arguments. Raises UserError when a face cannot be drawn."""
    looks = person(settings.seed, take.looks)
    moves = looks if take.moves == take.looks else person(settings.seed, take.moves)
    if settings.acted:
        shown = acting.act(settings.seed, settings.acted, settings.views)
    else:
        shown = perform(moves, settings.seed, take.number, settings.seconds, settings.fps)
    count = len(shown.expression)
    size, camera = settings.size, Camera(*CAMERA)
    rows: dict[str, list[Any]] = {name: [] for name in PER_FRAME}
    for k in range(count):
        parameters = frame_parameters(looks, shown, k)
        made = render(_head(), parameters, camera, size=size, supersampling=settings.supersampling)
        if made.overflow:
            raise UserError(f"{take.clip_id}: frame {k} needs more room than there is to draw it; choose another seed")
        rows["frames"].append(simplejpeg.encode_jpeg(_bytes(made.colour), JPEG_QUALITY, "RGB", "444"))
        rows["mask"].append(_png(np.asarray(made.mask) * np.uint8(255)))
        rows["parts"].append(_png((np.asarray(made.segments) + 1).astype(np.uint8)))
        rows["landmarks"].append(np.asarray(made.landmarks))
        rows["landmarks_3d"].append(np.asarray(made.landmarks_3d))
        mean = parameters.replace(identity=np.zeros_like(looks.identity))
        rows["landmarks_mean"].append(np.asarray(posed_landmarks(_head(), mean, camera, size=size)))
    units = np.asarray(action_units(shown.expression), np.float32)
    record = {
        "clip_id": take.clip_id,
        "identity": looks.name,
        "source_clip": take.source_clip,
        "driving_clip": take.driving_clip,
        "fps": np.float32(settings.fps),
        "timestamps": np.arange(count) / settings.fps,
        "bbox": np.array([0, 0, size, size], np.float32),
        **{name: rows[name] if name in PICTURES else np.stack(rows[name]) for name in PER_FRAME},
        "action_units": units,
        "pose": np.concatenate([shown.rotation, shown.translation], axis=1).astype(np.float32),
        "expression": shown.expression.astype(np.float32),
        "gaze": shown.gaze.astype(np.float32),
        "camera": np.tile(CAMERA, (count, 1)),
        "light": np.tile(looks.light.reshape(-1).astype(np.float32), (count, 1)),
        "identity_coefficients": looks.identity.astype(np.float32),
    }
    if settings.acted:
        numbers = acting.acted_numbers(settings.acted, settings.views)
        return {**record, "acted": numbers, "attributes": acting.attributes(looks, units)}
    spoken = {"phonemes": shown.phonemes.astype(np.int32), "phoneme_times": shown.phoneme_times.astype(np.float32)}
    return {**record, "audio": shown.audio, **spoken}


def frame_parameters(looks: Person, shown: Performance, frame: int) -> Parameters:
    """What the renderer takes for somebody in one frame of a performance."""
    return Parameters(
        identity=looks.identity,
        expression=shown.expression[frame],
        rotation=shown.rotation[frame],
        translation=shown.translation[frame],
        gaze=shown.gaze[frame],
        light=looks.light,
        key_light=looks.key_light,
        materials=Materials(**looks.materials),
        background=looks.background,
        background_phase=looks.background_phase,
    )


@functools.cache
def _head() -> SyntheticHead:
    return synthetic_head()


def _bytes(colour: Any) -> np.ndarray:
    return np.clip(np.round((np.asarray(colour) + 1) * 127.5), 0, 255).astype(np.uint8)


def _png(plane: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(plane).save(file, "PNG", compress_level=1)
    return file.getvalue()
