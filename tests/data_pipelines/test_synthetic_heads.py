"""Datasets of synthetic heads: who is in which split, exact labels, the truth across identities, the same contents."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines import building, schema
from data_pipelines.builders import synthetic_heads
from data_pipelines.builders.synthetic_heads import plan, prepare_synthetic
from data_pipelines.clips import decode_clip, describe, open_clips
from data_pipelines.samplers import make_sampler
from data_pipelines.synthetic.clips import ACTED_FIELDS, TALKING_FIELDS
from reenax.core.errors import UserError

SMALL: dict[str, Any] = {"identities": 3, "seconds": 0.8, "fps": 5.0, "size": 32, "progress": False}


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heads")
    prepare_synthetic(out, **SMALL)
    return out


def records(heads: Path, split: str) -> dict[str, dict[str, Any]]:
    clips = open_clips(heads, split)
    return {clips.clip_ids[k]: clips[k] for k in range(len(clips))}


def pictures(record: dict[str, Any], field: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in record[field]])


@pytest.mark.parametrize(("identities", "clips", "share"), [(3, 1, 0.2), (10, 2, 0.2), (50, 3, 0.1), (7, 1, 0.9)])
def test_people_are_split_and_everybody_tested_drives_another(identities: int, clips: int, share: float) -> None:
    splits = plan(identities, clips, 0, share)
    looks = {split: {take.looks for take in takes} for split, takes in splits.items()}
    assert looks["train"] | looks["test"] == set(range(identities))
    assert not looks["train"] & looks["test"]
    tests = {take.clip_id: take for take in splits["test"]}
    assert len(tests) == clips * len(looks["test"]) >= 2
    assert all(take.looks == take.moves and take.source_clip == take.clip_id for take in tests.values())
    assert len(splits["cross"]) == len(tests)
    assert {take.driving_clip for take in splits["cross"]} == set(tests)
    for take in splits["cross"]:
        assert tests[take.source_clip].looks == take.looks != take.moves
        assert (tests[take.driving_clip].looks, tests[take.driving_clip].number) == (take.moves, take.number)


@pytest.mark.parametrize(("identities", "clips", "share", "tested"), [(4, 8, 0.25, 2), (2, 2, 0.1, 1), (3, 5, 0.9, 4)])
def test_the_last_clips_of_everybody_are_tested(identities: int, clips: int, share: float, tested: int) -> None:
    splits = plan(identities, clips, 0, share, "clips")
    people = range(identities)
    train = {(take.looks, take.number) for take in splits["train"]}
    tests = {take.clip_id: take for take in splits["test"]}
    assert train == {(index, number) for index in people for number in range(clips - tested)}
    assert {(take.looks, take.number) for take in tests.values()} == {
        (index, number) for index in people for number in range(clips - tested, clips)
    }
    done = {(take.looks, take.moves, take.number) for take in splits["cross"]}
    assert done == {(a, b, n) for a in people for b in people if a != b for n in range(clips - tested, clips)}
    assert len(splits["cross"]) == len({take.clip_id for take in splits["cross"]}) == len(done)
    for take in splits["cross"]:
        source, driving = tests[take.source_clip], tests[take.driving_clip]
        assert (source.looks, source.number) == (take.looks, take.number)
        assert (driving.looks, driving.number) == (take.moves, take.number)


def test_one_person_has_no_counterpart() -> None:
    assert set(plan(1, 3, 0, 0.2, "clips")) == {"train", "test"}


def test_few_people_have_fewer_splits() -> None:
    assert set(plan(1, 2, 0, 0.2)) == {"train"}
    assert set(plan(2, 1, 0, 0.2)) == {"train", "test"}
    assert set(plan(9, 1, 0, 0.0)) == {"train"}


def test_every_field_is_there_and_fits_the_schema(heads: Path) -> None:
    for split in ("train", "test", "cross"):
        for record in records(heads, split).values():
            assert set(record) == TALKING_FIELDS
            schema.check(record)
            assert decode_clip(record).shape == (4, 32, 32, 3)
            assert record["audio"].shape == (round(0.8 * 16000),)
            np.testing.assert_allclose(record["phoneme_times"][[0, -1], [0, 1]], [0, 0.8], atol=1e-6)


def test_acted_clips_show_the_same_by_everybody(tmp_path: Path) -> None:
    prepare_synthetic(tmp_path, **{**SMALL, "identities": 3}, acted=2, views=2)
    train, test, cross = (records(tmp_path, split) for split in ("train", "test", "cross"))
    assert (len(train), len(test), len(cross)) == (1, 2, 2)
    first = next(iter(train.values()))
    for record in [*train.values(), *test.values(), *cross.values()]:
        assert set(record) == ACTED_FIELDS
        schema.check(record)
        assert record["acted"].tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]
        for name in ("expression", "action_units", "pose", "gaze", "landmarks_mean"):
            np.testing.assert_array_equal(record[name], first[name])
    nobody = {name: np.abs(record["landmarks"] - first["landmarks"]).max() for name, record in test.items()}
    assert all(difference > 0.02 for difference in nobody.values())
    sampler = make_sampler(open_clips(tmp_path, "test"), {"sampler": "acted", "labels": ("landmarks",)})
    assert sampler(0, np.random.default_rng(0))["landmarks_truth"].shape == (68, 2)
    with pytest.raises(UserError, match="was made with acted 2"):
        prepare_synthetic(tmp_path, **SMALL, acted=3, views=2)


def test_masks_and_parts_agree_with_each_other_and_the_landmarks(heads: Path) -> None:
    for record in records(heads, "test").values():
        mask, parts = pictures(record, "mask"), pictures(record, "parts")
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask == 255, parts > 0)
        assert parts.max() <= 13
        centre = np.rint((record["landmarks"][:, 30] + 1) / 2 * 31).astype(int)  # the tip of the nose
        assert (parts[np.arange(4), centre[:, 1], centre[:, 0]] == 1).all()
        np.testing.assert_array_equal(record["landmarks"], record["landmarks_3d"][..., :2])


def test_the_truth_across_identities_has_the_looks_of_one_and_the_motion_of_the_other(heads: Path) -> None:
    own, cross = records(heads, "test"), records(heads, "cross")
    assert len(cross) == 2
    for record in cross.values():
        source, driving = own[record["source_clip"]], own[record["driving_clip"]]
        assert record["identity"] == source["identity"] != driving["identity"]
        for name in ("pose", "expression", "gaze", "action_units", "audio", "phonemes", "timestamps"):
            np.testing.assert_array_equal(record[name], driving[name])
        for name in ("identity_coefficients", "light", "camera"):
            np.testing.assert_array_equal(record[name], source[name])
        # The landmarks of the mean head know the motion alone, those of the person do not.
        np.testing.assert_allclose(record["landmarks_mean"], driving["landmarks_mean"], atol=1e-6)
        assert np.abs(record["landmarks"] - driving["landmarks"]).max() > 0.02


def test_labels_of_frames_are_those_of_the_record(heads: Path) -> None:
    clips = open_clips(heads, "test")
    fields = {name: schema.FIELDS[name] for name in sorted(TALKING_FIELDS)}
    names = [name for name, field in fields.items() if field.kind == "array" and field.shape[:1] == ("t",)]
    assert {"expression", "light", "pose", "gaze", "landmarks_mean"} <= set(names)
    _, labels = clips.examples(1, [3, 0], names)
    record = clips[1]
    for name in names:
        np.testing.assert_array_equal(labels[name], record[name][[3, 0]])


def test_workers_change_nothing(heads: Path, tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "again", **SMALL, workers=2)
    assert describe(tmp_path / "again")["digest"] == describe(heads)["digest"]


def test_an_interrupted_run_continues(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    honest = synthetic_heads.clip_record

    def interrupted(take: Any, settings: Any) -> dict[str, Any]:
        if len(rendered) == 3:
            raise KeyboardInterrupt
        rendered.append(take.clip_id)
        return honest(take, settings)

    monkeypatch.setattr(synthetic_heads, "clip_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic(tmp_path, **SMALL)
    with pytest.raises(UserError, match="not a finished dataset"):
        describe(tmp_path)
    monkeypatch.setattr(
        synthetic_heads, "clip_record", lambda take, s: rendered.append(take.clip_id) or honest(take, s)
    )
    assert "dataset written" in prepare_synthetic(tmp_path, **SMALL)
    assert len(rendered) == len(set(rendered)) == 5  # nothing twice
    assert describe(tmp_path)["digest"] == describe(heads)["digest"]
    assert not (tmp_path / building.WORK_FOLDER).exists()
    assert "left as it is" in prepare_synthetic(tmp_path, **SMALL)
    with pytest.raises(UserError, match="was made with fps 5"):
        prepare_synthetic(tmp_path, **{**SMALL, "fps": 10.0})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identities": 0}, "identities 0"),
        ({"size": 3}, "size 3: give the side of the frames in pixels: 32, 64, 128, 256, 512"),
        ({"clips": 0}, "clips 0"),
        ({"seconds": 0.1}, "seconds 0.1"),
        ({"seconds": float("nan")}, "seconds nan"),
        ({"fps": 0}, "fps 0"),
        ({"seed": -1}, "seed -1"),
        ({"supersampling": 9}, "supersampling 9"),
        ({"test_share": 1.0}, "test_share 1.0"),
        ({"workers": 0}, "workers 0"),
        ({"acted": 1}, "acted 1: give how many"),
        ({"views": 2}, "views 2: give .* or 1 where people talk"),
        ({"acted": 5, "views": 8}, "views 8"),
        ({"acted": 5, "clips": 2}, "clips 2: give 1"),
        ({"split": "clips"}, "clips 1: give 2 or more with split clips"),
        ({"split": "people"}, "split people"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_nothing(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare_synthetic(tmp_path / "out", **{**SMALL, **change})
    assert not (tmp_path / "out").exists()
