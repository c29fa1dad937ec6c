"""A prepared dataset, opened: its records by index, and what its index says of them without reading them."""

import contextlib
import importlib
import json
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import Shaped, UInt8

from data_pipelines import schema
from reenax.core.errors import UserError

DIGEST_FILE = "digest.json"
"""Written last: a folder with this file is a whole dataset."""

INDEX_FILE = "clips.json"
"""For every split, in the order of the records: [clip_id, identity, number of frames, fields the clip lacks]."""

AUDIO_WINDOW = 0.2
"""Seconds of sound that go with a frame where nothing else is asked for."""


class DamagedRecordError(UserError):
    """A record that cannot be read.

    record: its number in the split.
    """

    def __init__(self, message: str, record: int) -> None:
        super().__init__(message, record)
        self.record = record

    def __str__(self) -> str:
        return str(self.args[0])


class Clips:
    """One split of a dataset. `clips[i]` is a record as in `data_pipelines.schema`; picklable, opens files when read.

    directory, split: where it is.
    fields: names of the fields that (some) records have.
    digest: of the content of the whole dataset, equal for equal content however it was built.
    size: side of the square frames in pixels.
    """

    def __init__(self, directory: Path, split: str, about: dict[str, Any], rows: Sequence[Sequence[Any]]) -> None:
        self.directory = directory
        self.split = split
        self.fields = frozenset(about["fields"])
        self.digest = str(about["digest"])
        self.size = int(about["size"])
        self._positions = [position for position, _ in rows]
        self.clip_ids: tuple[str, ...] = tuple(row[0] for _, row in rows)
        self.clip_identities: tuple[str, ...] = tuple(row[1] for _, row in rows)
        self.lengths: tuple[int, ...] = tuple(row[2] for _, row in rows)
        """Number of frames of every clip."""
        self.lacking: tuple[frozenset[str], ...] = tuple(frozenset(row[3]) for _, row in rows)
        """Of every clip the fields that it has no content for, such as "audio" where nothing is heard."""
        self.left_out: set[int] = set()
        """Numbers of the damaged records that readers have skipped so far."""

    @property
    def identities(self) -> tuple[str, ...]:
        """Names of the people, sorted."""
        return tuple(sorted(set(self.clip_identities)))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The whole record; pictures stay encoded. Raises UserError naming the record when it cannot be read."""
        raw = self._raw(index)
        try:
            record = self._source.dataset_info.features.deserialize_example_np(raw)
            record["fps"] = np.float32(record["fps"])
            for name, value in record.items():
                if schema.FIELDS[name].kind == "text":
                    record[name] = value.decode()
            return record
        except Exception as error:
            raise self._unreadable(index, error) from error

    def frames(self, index: int, chosen: Sequence[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Some frames of a record, decoded, without unpacking the others. Raises UserError as `clips[i]`."""
        return self.examples(index, chosen)[0]

    def examples(
        self,
        index: int,
        chosen: Sequence[int],
        labels: Sequence[str] = (),
        audio_window: float = AUDIO_WINDOW,
        pictures: bool = True,
    ) -> tuple[list[UInt8[np.ndarray, "h w 3"]], dict[str, Shaped[np.ndarray, "k ..."]]]:
        """Some frames of a record as `frames` gives them, and what these fields say of each of them.

        A field without a time axis says the same of every frame, but "audio": that is cut to `audio_window` seconds
        around every frame, int16 [k n]. Without `pictures` no picture is decoded, and the list is empty. Raises
        UserError as `clips[i]`.
        """
        raw = self._raw(index)
        try:
            features = self._example.FromString(raw).features.feature
            encoded = features["frames"].bytes_list.value
            values = {}
            for name in labels:
                if name == "audio":
                    times = _flat(features, "timestamps")
                    moments = times[list(chosen)] - times[0]
                    values[name] = sound_around(_flat(features, name), moments, audio_window)
                else:
                    values[name] = _rows(_flat(features, name), schema.FIELDS[name], len(encoded), chosen)
            return [simplejpeg.decode_jpeg(encoded[k], "RGB") for k in chosen if pictures], values
        except Exception as error:
            raise self._unreadable(index, error) from error

    def __repr__(self) -> str:
        return f"Clips({self.directory}, {self.split}: {len(self)} clips, {len(self.identities)} identities)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_source", "_example")}

    @cached_property
    def _example(self) -> Any:
        return importlib.import_module("tensorflow_datasets.proto").tf_example_pb2.Example

    @cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        try:
            builder: Any = tfds.builder_from_directory(self.directory)
            raw: Any = tfds.decode.DeserializeMethod.RAW_BYTES
            return builder.as_data_source(self.split, deserialize_method=raw)
        except Exception as error:
            raise UserError(
                f"{self.directory}, split {self.split}: the dataset cannot be opened ({_line(error)}); prepare it again"
            ) from error

    def _raw(self, index: int) -> bytes:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r} has no clip {index}")  # ends a for loop over the clips
        try:
            return self._source[self._positions[index]]
        except UserError:
            raise
        except Exception as error:
            raise self._unreadable(index, error) from error

    def where(self, record: int) -> str:
        """A record of the split (its number as in `DamagedRecordError`) in words: file, place in the file, clip."""
        rest, file = record, "?"
        with contextlib.suppress(Exception):  # what is damaged may be the description of the files
            info = self._source.dataset_info.splits[self.split]
            for path, length in zip(info.filepaths, info.shard_lengths, strict=True):
                file = Path(path).name
                if rest < length:
                    break
                rest -= length
        clip = self.clip_ids[self._positions.index(record)]
        return f"{self.directory}, split {self.split}: record {rest} of {file} ({clip})"

    def _unreadable(self, index: int, error: Exception) -> DamagedRecordError:
        record = self._positions[index]
        return DamagedRecordError(
            f"{self.where(record)} is damaged ({_line(error)}); prepare the dataset again, or leave such records out "
            f"with data.damaged=skip",
            record,
        )


def open_clips(directory: Path, split: str, needs: Collection[str] = ()) -> Clips:
    """One split of a prepared dataset; with `needs`, only the clips that have all of these fields.

    Raises UserError when the folder is no finished dataset, the split is empty or a needed field is missing.
    """
    directory = Path(directory)
    about = describe(directory)
    splits = _read_json(directory / INDEX_FILE)
    if not splits.get(split):
        there = ", ".join(f"{name} ({len(rows)} clips)" for name, rows in splits.items() if rows)
        hint = "" if split in splits or split not in ("train", "test") else "; a test split needs two identities"
        raise UserError(f"{directory}: no clips in the split {split!r}; there are: {there}{hint}")
    if missing := sorted(set(needs) - set(about["fields"])):
        raise UserError(
            f"{directory}: the clips have no {' and no '.join(missing)}; they have {', '.join(about['fields'])}"
        )
    rows = [(at, row) for at, row in enumerate(splits[split]) if not set(needs) & set(row[3])]
    if not rows:
        raise UserError(f"{directory}, split {split}: no clip has {', '.join(sorted(needs))}")
    return Clips(directory, split, about, rows)


def describe(directory: Path) -> dict[str, Any]:
    """The content of digest.json: digest, size, fields, counts per split, versions. Raises UserError."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such dataset folder; make one with: reenax prepare VIDEOS --out {directory}")
    if not (directory / DIGEST_FILE).is_file():
        raise UserError(f"{directory}: not a finished dataset (no {DIGEST_FILE}); run reenax prepare --out {directory}")
    about = _read_json(directory / DIGEST_FILE)
    if not {"digest", "size", "fields", "splits"} <= set(about):
        raise UserError(f"{directory / DIGEST_FILE}: not written by reenax prepare; prepare the dataset again")
    return about


def decode_clip(record: schema.Record, indices: Sequence[int] | None = None) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames of a record, all or those with these indices, as pixels. Raises ValueError on damaged pictures."""
    pictures = record["frames"] if indices is None else [record["frames"][k] for k in indices]
    return np.stack([simplejpeg.decode_jpeg(picture, "RGB") for picture in pictures])


def sound_around(
    sound: Shaped[np.ndarray, " n"], moments: Shaped[np.ndarray, " k"], window: float
) -> Shaped[np.ndarray, "k samples"]:
    """Pieces of a sound around some moments, the middle sample (number samples // 2) at the moment itself.

    sound: mono at 16 kHz.
    moments: in seconds from the beginning of the sound.
    window: length of a piece in seconds; it has round(16000 window) samples.

    What is before the beginning or behind the end is silence: zeros.
    """
    samples = round(window * schema.AUDIO_RATE)
    places = np.rint(np.asarray(moments) * schema.AUDIO_RATE).astype(np.int64)[:, None] + np.arange(samples)[None]
    places -= samples // 2
    inside = (places >= 0) & (places < len(sound))
    pieces = np.zeros(places.shape, sound.dtype)
    pieces[inside] = sound[places[inside]]
    return pieces


def _flat(features: Any, name: str) -> Shaped[np.ndarray, " n"]:
    """The content of a field in a parsed example, without its shape."""
    key = name if name in features else f"{name}/value"  # TFDS keeps the shape of two free axes apart
    return np.frombuffer(features[key].bytes_list.value[0], schema.FIELDS[name].dtype)


def _rows(
    values: Shaped[np.ndarray, " n"], field: schema.Field, length: int, chosen: Sequence[int]
) -> Shaped[np.ndarray, "k ..."]:
    """What the flat content of a field says of some of the record's frames."""
    timed = field.shape[:1] == (schema.TIME,)
    rest = tuple(-1 if isinstance(axis, str) else axis for axis in (field.shape[1:] if timed else field.shape))
    if timed:
        return values.reshape(length, *rest)[list(chosen)]
    return np.broadcast_to(values.reshape(rest), (len(chosen), *values.reshape(rest).shape))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_line(error)}); prepare the dataset again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not written by reenax prepare; prepare the dataset again")
    return content


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
