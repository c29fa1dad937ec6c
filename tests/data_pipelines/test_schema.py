"""Records: what is written is read, through TFDS alone and through Clips; wrong ones are refused; digests."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import schema
from data_pipelines.clips import decode_clip, describe, open_clips
from reenax.core.errors import UserError
from tests.data_pipelines.conftest import CLIPS, SIZE, small_records


def test_round_trip_of_every_field(dataset: Path) -> None:
    for split in CLIPS:
        clips = open_clips(dataset, split)
        written = list(small_records(split))
        assert len(clips) == len(written)
        for read, expected in zip((clips[i] for i in range(len(clips))), written, strict=True):
            assert set(read) == set(expected) == clips.fields
            schema.check(read)
            for name, value in expected.items():
                np.testing.assert_array_equal(read[name], value)
                assert isinstance(value, (str, list)) or read[name].dtype == value.dtype
            assert schema.record_digest(read) == schema.record_digest(expected)
            assert decode_clip(read).shape == (len(expected["frames"]), SIZE, SIZE, 3)


def test_tfds_alone_reads_the_dataset(dataset: Path) -> None:
    builder: Any = tfds.builder_from_directory(dataset)
    source = builder.as_data_source("train")
    first = next(small_records("train"))
    assert len(source) == 6
    assert source[0]["clip_id"].decode() == first["clip_id"]
    np.testing.assert_array_equal(source[0]["timestamps"], first["timestamps"])
    assert list(source[0]["frames"]) == first["frames"]


def test_clips_know_their_index_without_reading(dataset: Path) -> None:
    clips = pickle.loads(pickle.dumps(open_clips(dataset, "train")))
    assert clips.identities == ("anna", "ben", "cleo")
    assert clips.lengths == (5, 9, 4, 12, 3, 7)
    assert clips.size == SIZE
    assert clips.digest == describe(dataset)["digest"]
    np.testing.assert_array_equal(clips.frames(3, [4, 0]), decode_clip(clips[3], [4, 0]))
    with_sound = open_clips(dataset, "train", needs={"audio"})
    assert len(with_sound) == 5
    assert "ben" not in with_sound.identities
    assert with_sound[2]["clip_id"] == "cleo.mp4/0000"


def test_what_is_no_dataset_is_one_line(dataset: Path, tmp_path: Path) -> None:
    for directory, split, needs, words in (
        (tmp_path / "none", "train", (), "no such dataset folder"),
        (tmp_path, "train", (), "not a finished dataset"),
        (dataset, "valid", (), "no clips in the split 'valid'; there are: train"),
        (dataset, "train", ("pose",), "have no pose"),
    ):
        with pytest.raises(UserError, match=words):
            open_clips(directory, split, needs)
    (tmp_path / "digest.json").write_text("{")
    with pytest.raises(UserError, match=r"digest\.json: cannot be read"):
        open_clips(tmp_path, "train")
    (tmp_path / "digest.json").write_text("{}")
    with pytest.raises(UserError, match="not written by reenax prepare"):
        open_clips(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identity": ""}, "identity"),
        ({"frames": [b"x"]}, "landmarks: shape"),
        ({"fps": np.float64(3)}, "fps: float64"),
        ({"fps": np.float32(-1)}, "fps: beyond"),
        ({"timestamps": np.zeros(5)}, "not increasing"),
        ({"landmarks": np.full((5, 68, 2), np.nan, np.float32)}, "not finite"),
        ({"mask": [b""] * 4}, "mask: not 5"),
        ({"colour": 1}, "unknown field colour"),
    ],
)
def test_wrong_records_are_refused(change: dict, words: str) -> None:
    record = {**next(small_records("train")), **change}
    if words.startswith("landmarks"):
        record["timestamps"] = np.zeros(1)
    with pytest.raises(ValueError, match=words):
        schema.check(record)


@given(st.sampled_from(["clip_id", "frames", "timestamps", "landmarks", "audio"]), st.integers(0, 3))
def test_digest_sees_every_change(name: str, at: int) -> None:
    record = next(small_records("train"))
    value = record[name]
    if isinstance(value, str):
        changed = value[:at] + "?" + value[at + 1 :]
    elif isinstance(value, list):
        changed = [*value[:at], value[at] + b"\0", *value[at + 1 :]]
    else:
        changed = value.copy()
        changed[at] += 1
    assert schema.record_digest({**record, name: changed}) != schema.record_digest(record)
    assert schema.record_digest(dict(reversed(record.items()))) == schema.record_digest(record)


def test_every_field_has_features() -> None:
    features = schema.features(schema.FIELDS)
    assert set(features) == set(schema.FIELDS)
    assert set(schema.features(())) == schema.REQUIRED
