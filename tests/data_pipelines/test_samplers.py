"""Samplers of labels, of sound, of certain people and of people who act the same: what is drawn is what they say."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from data_pipelines import building, loader, schema
from data_pipelines.acted import Acted
from data_pipelines.samplers import Labelled, Pair, People, Window, make_sampler
from reenax.core.errors import UserError
from tests.data_pipelines.conftest import SIZE

EXPRESSIONS, VIEWS, GAZES = 4, 2, 2
ACTORS = {"train": ("kim", "lou", "max"), "test": ("nia", "oli")}
LANDMARKS = ("source_neutral", "driving", "driving_neutral", "other", "other_neutral", "neutral", "truth", "random")


def acted_records(split: str, changes: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Everybody acts everything; pictures tell by their colours, landmarks by their first numbers, who does what."""
    acting = np.array(list(np.ndindex(EXPRESSIONS, VIEWS, GAZES)), np.int32)
    for number, name in enumerate(ACTORS[split]):
        rows = np.asarray((changes or {}).get(name, acting), np.int32)
        pictures = np.full((len(rows), SIZE, SIZE, 3), 60 * number + 20, np.uint8)
        pictures[..., 1] = 40 * rows[:, 0, None, None] + 10
        pictures[:, : SIZE // 2, :, 2] = 255  # top is not bottom
        landmarks = np.zeros((len(rows), 68, 2), np.float32)
        landmarks[:, 0, 0], landmarks[:, 1], landmarks[:, 2, 0] = number, rows[:, :2], rows[:, 2]
        yield {
            "clip_id": f"{name}/0000",
            "identity": name,
            "frames": [simplejpeg.encode_jpeg(picture, 95, "RGB", "444") for picture in pictures],
            "fps": np.float32(25),
            "timestamps": np.arange(len(rows)) / 25,
            "bbox": np.array([0, 0, SIZE, SIZE], np.float32),
            "landmarks": landmarks,
            "acted": rows,
            "attributes": np.stack([rows[:, 0] == 1, rows[:, 0] == 2, rows[:, 1] == 1], 1).astype(np.float32),
        }


def build(out: Path, changes: dict[str, Any] | None = None) -> Path:
    fields = schema.REQUIRED | {"landmarks", "acted", "attributes"}
    building.build(
        out, {split: lambda split=split: acted_records(split, changes) for split in ACTORS}, {}, SIZE, fields
    )
    return out


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("actors"))


@pytest.fixture(scope="module")
def clips(dataset: Path) -> loader.Clips:
    return loader.open_clips(dataset, "train")


@pytest.fixture(scope="module")
def acted(actors: Path) -> Acted:
    sampler = make_sampler(loader.open_clips(actors, "train"), {"sampler": "acted", "labels": ("landmarks",)})
    assert isinstance(sampler, Acted)
    return sampler


def batch(clips: loader.Clips, config: dict[str, Any], **changes: Any) -> dict[str, np.ndarray]:
    with loader.batches(clips, config, **{"batch_size": 4, "seed": 3, "threads": 0, **changes}) as batches:
        return next(batches)


def who(example: dict[str, np.ndarray], role: str) -> tuple[int, ...]:
    """Person, expression, view and gaze that the landmarks of a role tell."""
    points = example[f"landmarks_{role}"]
    return tuple(int(value) for value in (points[0, 0], *points[1], points[2, 0]))


def seen(picture: np.ndarray) -> tuple[int, int]:
    """Person and expression that a picture shows."""
    return round((float(picture[..., 0].mean()) - 20) / 60), round((float(picture[..., 1].mean()) - 10) / 40)


def test_acted_examples_are_of_two_people_who_do_what_the_names_say(acted: Acted) -> None:
    rng = np.random.default_rng(0)
    assert len(acted) == 3
    kept: dict[str, set[tuple[int, ...]]] = {role: set() for role in LANDMARKS}
    partners = set()
    for draw in range(250):
        example = acted(draw % 3, rng)
        assert set(example) == {"source", "driving", "other", *(f"landmarks_{role}" for role in LANDMARKS)}
        told = {role: who(example, role) for role in LANDMARKS}
        for role, what in told.items():
            kept[role].add(what)
        a, b = draw % 3, told["other"][0]
        assert a != b
        partners.add((a, b))
        assert {told[role][0] for role in ("driving", "driving_neutral", "source_neutral")} == {a}
        assert {told[role][0] for role in ("other_neutral", "neutral", "truth", "random")} == {b}
        assert seen(example["source"])[0] == a
        assert seen(example["driving"]) == told["driving"][:2]
        assert seen(example["other"]) == told["other"][:2]
        assert told["driving_neutral"][1:] == (0, *told["driving"][2:])
        assert told["source_neutral"][1:] == told["other_neutral"][1:] == (0, 0, 0)
        assert (told["neutral"][1], told["neutral"][3]) == (0, 0)
        assert told["truth"][1:] == (told["driving"][1], told["neutral"][2], 0)
    assert partners == {(a, b) for a in range(3) for b in range(3) if a != b}
    everything = 3 * EXPRESSIONS * VIEWS * GAZES
    assert all(len(kept[role]) > 0.8 * everything for role in ("driving", "other", "random"))
    assert len(kept["neutral"]) == 3 * VIEWS
    assert len(kept["truth"]) == 3 * EXPRESSIONS * VIEWS


def test_acted_draws_do_not_depend_on_jitter_and_work_in_the_test_split(actors: Path, acted: Acted) -> None:
    config = {"sampler": "acted", "labels": ("landmarks", "attributes"), "by_identity": True}
    jittered = make_sampler(acted.clips, {**config, "jitter": {"brightness": 0.5}})
    plain, changed = (sampler(1, np.random.default_rng(5)) for sampler in (acted, jittered))
    for role in LANDMARKS:
        np.testing.assert_array_equal(plain[f"landmarks_{role}"], changed[f"landmarks_{role}"])
    assert (plain["other"] != changed["other"]).any()
    test = batch(loader.open_clips(actors, "test"), config)
    assert test["other"].shape == (4, SIZE, SIZE, 3)
    assert test["attributes_truth"].shape == (4, 3)
    two = make_sampler(acted.clips, {**config, "people": ("max", "kim")})
    assert {who(two(k % 2, np.random.default_rng(k)), "truth")[0] for k in range(10)} == {0, 2}


def test_acted_needs_every_frame_that_its_draws_name(tmp_path: Path, dataset: Path, acted: Acted) -> None:
    clips = loader.open_clips(build(tmp_path / "no", {"lou": [[0, 0, 0], [1, 1, 0]]}), "train")
    config = {"sampler": "acted", "labels": ("landmarks",)}
    with pytest.raises(UserError, match="lou has no frame of expression 0, view 1, gaze 0.* leave lou out"):
        make_sampler(clips, config)
    assert len(make_sampler(clips, {**config, "people": ("kim", "max")})) == 2
    clips = loader.open_clips(build(tmp_path / "odd", {"kim": [[0, 0, 0], [7, 0, 0], [1, 0, 0]]}), "train")
    with pytest.raises(UserError, match="nobody but kim has a frame of expression 7 with gaze 0"):
        make_sampler(clips, config)
    clips = loader.open_clips(build(tmp_path / "less", {"kim": [[0, 0, 0], [1, 0, 0]]}), "train")
    sampler = make_sampler(clips, config)  # kim is no partner of those who show expression 2
    for k in range(40):
        drawn = sampler(1, np.random.default_rng(k))
        assert who(drawn, "driving")[1] in (0, 1) or who(drawn, "truth")[0] == 2
    with pytest.raises(UserError, match="no field 'acted'"):
        make_sampler(loader.open_clips(dataset, "train"), config)
    with pytest.raises(UserError, match="labels is empty"):
        make_sampler(acted.clips, {"sampler": "acted"})
    with pytest.raises(UserError, match="two people, .* has kim among data.people"):
        make_sampler(acted.clips, {**config, "people": ("kim",)})


@pytest.mark.parametrize("name", ["acted", "people", "labelled"])
def test_workers_and_processes_change_nothing(acted: Acted, name: str) -> None:
    config = {
        "sampler": name,
        "labels": ("landmarks",),
        "jitter": {"hue": 0.1},
        "people": ("max", "lou"),
        "targets": name == "labelled",
    }
    config = {key: value for key, value in config.items() if value}
    whole = batch(acted.clips, config, start=1)
    worker = batch(acted.clips, config, start=1, workers=1 if name == "acted" else 0, threads=2)
    halves = [batch(acted.clips, config, start=1, rows=rows) for rows in (range(2), range(2, 4))]
    for key, rows in whole.items():
        np.testing.assert_array_equal(worker[key], rows)
        np.testing.assert_array_equal(np.concatenate([half[key] for half in halves]), rows)
    assert len(pickle.dumps(make_sampler(acted.clips, config))) < 20_000


def test_people_come_in_the_order_asked(acted: Acted, clips: loader.Clips) -> None:
    config = {"sampler": "people", "people": ("max", "kim"), "labels": ("landmarks", "acted")}
    sampler = make_sampler(acted.clips, config)
    assert isinstance(sampler, People)
    for seed in range(10):
        example = sampler(0, np.random.default_rng(seed))
        assert [seen(frame)[0] for frame in example["frames"]] == [2, 0]
        assert [seen(frame)[1] for frame in example["frames"]] == example["acted"][:, 0].tolist()
        assert example["landmarks"].shape == (2, 68, 2)
    sampler = make_sampler(clips, {"sampler": "people", "people": ("ben", "cleo", "anna")})
    assert len(sampler) == 3  # cleo has three clips
    numbers = {tuple(sampler(0, np.random.default_rng(k))["frames"][:, 0, -1, 0] // 20) for k in range(60)}
    assert numbers == {(2, c, a) for c in (3, 4, 5) for a in (0, 1)}
    assert batch(clips, {"sampler": "people", "people": ("ben", "anna")})["frames"].shape == (4, 2, SIZE, SIZE, 3)


def test_targets_are_of_frames_drawn_independently(acted: Acted) -> None:
    config = {"sampler": "labelled", "labels": ("attributes", "acted")}
    plain = make_sampler(acted.clips, config)
    sampler = make_sampler(acted.clips, {**config, "targets": True, "flip": False})
    assert isinstance(sampler, Labelled)
    pairs = set()
    for seed in range(300):
        example, without = (each(1, np.random.default_rng(seed)) for each in (sampler, plain))
        assert set(example) == {"source", "attributes", "acted", "target_attributes", "target_acted"}
        assert all(np.array_equal(example[key], without[key]) for key in without)
        assert seen(example["source"]) == (1, example["acted"][0])
        assert example["target_attributes"].tolist() == [
            example["target_acted"][0] == 1,
            example["target_acted"][0] == 2,
            example["target_acted"][1] == 1,
        ]
        pairs.add((*example["acted"], *example["target_acted"]))
    assert len(pairs) > 150  # of 256
    assert {pair[3:] for pair in pairs} == set(np.ndindex(EXPRESSIONS, VIEWS, GAZES))


def test_labels_that_a_mirror_keeps_can_be_flipped(clips: loader.Clips) -> None:
    config = {"sampler": "labelled", "labels": ("timestamps",)}
    plain, flipped = (make_sampler(clips, {**config, "flip": flip}) for flip in (False, True))
    mirrored = 0
    for seed in range(100):
        first, second = (sampler(1, np.random.default_rng(seed)) for sampler in (plain, flipped))
        assert first["timestamps"] == second["timestamps"]
        if not np.array_equal(first["source"], second["source"]):
            np.testing.assert_array_equal(first["source"], second["source"][:, ::-1])
            mirrored += 1
    assert 35 < mirrored < 65


def test_sound_is_cut_around_the_frame(clips: loader.Clips) -> None:
    # The sound counts its samples, 640 of them per frame at 25 frames a second.
    config = {"labels": ("audio", "timestamps"), "audio_window": 0.06, "by_identity": True}
    sampler = make_sampler(clips, config)
    assert isinstance(sampler, Pair)
    assert len(sampler) == 2  # nothing is heard of ben
    silent = 0
    for seed in range(40):
        example = sampler(1, np.random.default_rng(seed))
        for role in ("source", "driving"):
            sound, frame = example[f"{role}_audio"], round((float(example[f"{role}_timestamps"]) - 1e4) * 25)
            assert sound.dtype == np.int16
            assert sound.shape == (960,)
            assert sound[480] == 640 * frame
            expected = 640 * frame - 480 + np.arange(960)
            there = sound != 0
            np.testing.assert_array_equal(sound[there], expected[there])
            silent += int((expected < 0).sum())
            assert (sound[expected <= 0] == 0).all()
    assert silent
    one = batch(clips, {"sampler": "labelled", "labels": ("audio",), "targets": True})
    assert one["audio"].shape == one["target_audio"].shape == (4, 3200)
    group = {"sampler": "people", "people": ("anna", "cleo"), "labels": ("audio",), "audio_window": 0.1}
    assert batch(clips, group)["audio"].shape == (4, 2, 1600)


def test_only_the_people_asked_for_are_drawn(clips: loader.Clips) -> None:
    assert len(make_sampler(clips, {"people": ("cleo", "anna"), "by_identity": True})) == 2
    assert len(make_sampler(clips, {"people": ["cleo"]})) == 3
    sampler = make_sampler(clips, {"sampler": "window", "frames": 5, "people": ("anna",)})
    assert isinstance(sampler, Window)
    assert len(sampler) == 2
    with pytest.raises(UserError, match="the longest clip .* has 9 frames"):
        make_sampler(clips, {"sampler": "window", "frames": 10, "people": ("anna",)})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"people": ("dora",)}, r"split train, has no 'dora'; it has anna, ben, cleo"),
        ({"people": ("anna", "anna")}, "somebody is named twice"),
        ({"people": ("ben",), "labels": ("audio",)}, r"data.labels=\('audio',\): no clip of ben"),
        ({"sampler": "people", "people": ("anna",)}, "needs two or more, such as"),
        ({"sampler": "people", "people": ("anna", "ben"), "labels": ("audio",)}, "no clip of ben"),
        ({"sampler": "people", "people": ("anna", "ben"), "flip": True}, "data.flip=True: the sampler 'people' knows"),
        ({"targets": True}, "data.targets=True: the sampler 'pair' knows no data.targets; switch it off"),
        ({"audio_window": 0}, "data.audio_window=0: give the seconds"),
        ({"labels": ("audio",), "resize": (0.9, 1.1)}, "'audio' does not follow data.flip and data.resize"),
    ],
)
def test_wrong_keys_are_one_line(clips: loader.Clips, config: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_sampler(clips, config)
