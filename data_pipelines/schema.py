"""The record: one clip of one person, every field that a dataset can have, and the digest of its content.

A method names the fields that it needs; a dataset has all required fields and any of the optional ones.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Shaped

Record = Mapping[str, Any]
"""Field name -> value: text is str, pictures are lists of bytes, everything else a NumPy array."""

TIME = "t"
"""Letter of the axis that runs over the frames of the clip."""

AUDIO_RATE = 16_000
"""Samples per second of the sound."""


@dataclass(frozen=True)
class Field:
    """One field of a record.

    kind: "text" (str), "pictures" (list of t encoded pictures) or "array".
    shape: of the array; a letter is an axis of any length, "t" the number of frames.
    limits: smallest and largest meaningful value, None where there is none.
    """

    meaning: str
    kind: str = "array"
    shape: tuple[int | str, ...] = ()
    dtype: type[np.generic] = np.float32
    limits: tuple[float, float] | None = None
    unit: str = ""
    required: bool = False


FIELDS: Mapping[str, Field] = {
    "clip_id": Field("name of the clip, unique in the dataset", "text", required=True),
    "identity": Field("name of the person", "text", required=True),
    "frames": Field("RGB frames, JPEG of quality 95 without chroma subsampling", "pictures", (TIME,), required=True),
    "fps": Field("average frame rate", limits=(0.0, np.inf), unit="frames/s", required=True),
    "timestamps": Field(
        "time of every frame in the video, strictly increasing",
        shape=(TIME,),
        dtype=np.float64,
        unit="s",
        required=True,
    ),
    "bbox": Field("x0, y0, x1, y1 of the clip's square in the upright video", shape=(4,), unit="pixels", required=True),
    "landmarks": Field(
        "68 points of the face, x right and y down; -1 and 1 are the centres of the first and last pixel, a point "
        "outside the square is beyond them",
        shape=(TIME, 68, 2),
    ),
    "landmarks_3d": Field("68 points x, y, z; x and y as in landmarks, z in the same unit", shape=(TIME, 68, 3)),
    "landmarks_106": Field("106 points of the face, in the unit of landmarks", shape=(TIME, 106, 2)),
    "action_units": Field("intensity of 17 facial action units", shape=(TIME, 17), limits=(0.0, 5.0)),
    "acted": Field(
        "what is acted: numbers of the expression, the view and the gaze; 0 is neutral, frontal and straight",
        shape=(TIME, 3),
        dtype=np.int32,
        limits=(0, np.inf),
    ),
    "attributes": Field(
        "1 where something is true of the frame, else 0", shape=(TIME, "attributes"), limits=(0.0, 1.0)
    ),
    "pose": Field("pitch, yaw, roll and translation of the head", shape=(TIME, 6), unit="radians; cm"),
    "expression": Field("expression coefficients of a head model", shape=(TIME, "expression")),
    "camera": Field("parameters of the camera", shape=(TIME, "camera")),
    "light": Field("spherical harmonics of the light, nine per colour", shape=(TIME, "light")),
    "audio": Field(
        "mono sound at 16 kHz from the time of the first frame to the end of the last; empty where the video has none",
        shape=("n",),
        dtype=np.int16,
        limits=(-32768, 32767),
    ),
    "mask": Field("one PNG per frame, 8 bit grey, 0 background and 255 person", "pictures", (TIME,)),
    "landmarks_mean": Field(
        "landmarks of the mean head with the clip's pose and expression: motion without the shape of the person",
        shape=(TIME, 68, 2),
    ),
    "identity_coefficients": Field("shape of the person, coefficients of a head model", shape=("identity",)),
    "gaze": Field(
        "pitch up and yaw to the right of the picture, of the left eye and of the right",
        shape=(TIME, 2, 2),
        unit="radians",
    ),
    "parts": Field(
        "one PNG per frame, 8 bit grey: 0 background, else 1 + the number of the part of the head model",
        "pictures",
        (TIME,),
    ),
    "phonemes": Field("what is said, numbers of an inventory", shape=("phonemes",), dtype=np.int32, limits=(0, np.inf)),
    "phoneme_times": Field("begin and end of every phoneme", shape=("phonemes", 2), unit="s"),
    "source_clip": Field("the clip that shows the same person moving otherwise; a clip may name itself", "text"),
    "driving_clip": Field("the clip whose motion this one shows; a clip may name itself", "text"),
}
"""Every field that a record can have."""

REQUIRED = frozenset(name for name, field in FIELDS.items() if field.required)


def features(fields: Collection[str]) -> Any:
    """The `tfds.features.FeaturesDict` of records with these fields (required ones are added)."""
    import tensorflow_datasets as tfds

    def feature(field: Field) -> Any:
        if field.kind == "text":
            return tfds.features.Text()
        if field.kind == "pictures":
            return tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.object_))
        shape = tuple(None if isinstance(axis, str) else axis for axis in field.shape)
        if not shape:
            return tfds.features.Scalar(dtype=field.dtype)
        # As bytes: by default TFDS stores float64 as float32.
        return tfds.features.Tensor(shape=shape, dtype=field.dtype, encoding=tfds.features.Encoding.BYTES)

    present = REQUIRED | set(fields)
    return tfds.features.FeaturesDict({name: feature(field) for name, field in FIELDS.items() if name in present})


def check(record: Record) -> None:
    """Raise ValueError naming the field when a record is not as the schema says."""
    if missing := REQUIRED - set(record):
        raise ValueError(f"a record lacks {', '.join(sorted(missing))}")
    if unknown := set(record) - set(FIELDS):
        raise ValueError(f"a record has the unknown field {min(unknown)}")
    axes = {TIME: len(record["frames"])}
    for name, value in record.items():
        field = FIELDS[name]
        if field.kind == "text":
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name}: {value!r} is no text")
        elif field.kind == "pictures":
            if len(value) != axes[TIME] or not all(isinstance(picture, bytes) for picture in value):
                raise ValueError(f"{name}: not {axes[TIME]} encoded pictures")
        else:
            _check_array(name, field, np.asarray(value), axes)


def _check_array(name: str, field: Field, array: Shaped[np.ndarray, "..."], axes: dict[str, int]) -> None:
    if array.dtype != field.dtype:
        raise ValueError(f"{name}: {array.dtype}, not {np.dtype(field.dtype)}")
    if array.ndim != len(field.shape) or any(
        size != (axes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for size, axis in zip(array.shape, field.shape, strict=True)
    ):
        raise ValueError(f"{name}: shape {array.shape}, not {field.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: not finite")
    low, high = field.limits or (-np.inf, np.inf)
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"{name}: beyond {low:g} to {high:g}")
    if name == "timestamps" and (np.diff(array) <= 0).any():
        raise ValueError("timestamps: not increasing")


def record_digest(record: Record) -> str:
    """Digest of names and contents, whatever container the record came from."""
    digest = xxhash.xxh3_128()
    for name in sorted(record):
        field, value = FIELDS[name], record[name]
        if field.kind == "text":
            _feed(digest, name, "text", value.encode())
        elif field.kind == "pictures":
            for picture in value:
                _feed(digest, name, "picture", picture)
        else:
            array = np.ascontiguousarray(value, dtype=np.dtype(field.dtype).newbyteorder("<"))
            _feed(digest, name, f"{array.dtype.str}{np.shape(value)}", array.tobytes())
    return digest.hexdigest()


def combined_digest(parts: Sequence[tuple[str, str]]) -> str:
    """Digest of (key, digest) pairs in any order."""
    return xxhash.xxh3_128_hexdigest(json.dumps(sorted(parts)).encode())


def _feed(digest: Any, name: str, kind: str, content: bytes) -> None:
    digest.update(f"{name} {kind} {len(content)}\n".encode())  # lengths keep neighbours apart
    digest.update(content)
