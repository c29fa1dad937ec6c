"""Batches: the same for any number of threads, workers, processes and restarts; draws as the paper's code."""

import itertools
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import loader, transforms
from data_pipelines.samplers import Labelled, Pair, make_sampler
from reenax.core.errors import UserError
from tests.damage import damage_record
from tests.data_pipelines.conftest import SIZE

JITTER = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
CONFIG = {"by_identity": True, "swap": True, "flip": True, "jitter": JITTER, "resize": (0.9, 1.1), "size": SIZE}


def take(clips: loader.Clips, count: int, config: dict | None = None, **changes) -> dict[str, np.ndarray]:
    """`count` batches, stacked."""
    options = {"batch_size": 4, "seed": 7, "threads": 0, **changes}
    with loader.batches(clips, CONFIG if config is None else config, **options) as batches:
        taken = list(itertools.islice(batches, count))
    return {name: np.stack([batch[name] for batch in taken]) for name in taken[0]}


@pytest.fixture(scope="module")
def clips(dataset: Path) -> loader.Clips:
    return loader.open_clips(dataset, "train")


@pytest.fixture(scope="module")
def reference(clips: loader.Clips) -> dict[str, np.ndarray]:
    return take(clips, 12)


def test_batches_are_pictures(reference: dict[str, np.ndarray]) -> None:
    assert set(reference) == {"source", "driving"}
    for pictures in reference.values():
        assert pictures.shape == (12, 4, SIZE, SIZE, 3)
        assert pictures.dtype == np.uint8


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(clips: loader.Clips, reference: dict[str, np.ndarray], threads: int) -> None:
    for name, pictures in take(clips, 12, threads=threads).items():
        np.testing.assert_array_equal(pictures, reference[name])


@pytest.mark.parametrize(("workers", "start"), [(1, 0), (2, 3)])
def test_workers_change_nothing(
    clips: loader.Clips, reference: dict[str, np.ndarray], workers: int, start: int
) -> None:
    for name, pictures in take(clips, 6, workers=workers, start=start).items():
        np.testing.assert_array_equal(pictures, reference[name][start : start + 6])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_batch(clips: loader.Clips, reference: dict[str, np.ndarray], count: int) -> None:
    each = 4 // count
    parts = [take(clips, 6, rows=range(index * each, (index + 1) * each)) for index in range(count)]
    for name, pictures in reference.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], axis=1), pictures[:6])


@settings(max_examples=15, deadline=None)
@given(start=st.integers(0, 11), rows=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
def test_any_rows_from_any_step(
    clips: loader.Clips, reference: dict[str, np.ndarray], start: int, rows: list[int]
) -> None:
    for name, pictures in take(clips, 1, start=start, rows=rows).items():
        np.testing.assert_array_equal(pictures[0], reference[name][start, rows])


def test_resume_far_away_is_quick(clips: loader.Clips) -> None:
    near, far = take(clips, 1), take(clips, 1, start=2**30)
    assert (near["source"] != far["source"]).any()


def test_another_seed_gives_other_batches(clips: loader.Clips, reference: dict[str, np.ndarray]) -> None:
    assert (take(clips, 12, seed=8)["source"] != reference["source"]).any()


def test_every_epoch_has_every_item_once_in_a_new_order(clips: loader.Clips) -> None:
    assert loader.items_per_epoch(clips, {}) == 6
    assert loader.items_per_epoch(clips, {"by_identity": True}) == 3
    numbers = np.round((take(clips, 10, {}, batch_size=6)["source"][..., 0].mean((2, 3)) - 10) / 20)
    assert all(sorted(epoch) == list(range(6)) for epoch in numbers)
    assert len({tuple(epoch) for epoch in numbers}) > 5


def test_draws_of_pairs(clips: loader.Clips) -> None:
    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    plain, changed = Pair(clips), Pair(clips, swap=True, flip=True)
    frames = set()
    for _ in range(400):
        seed = rng.integers(2**32)
        first = plain(3, np.random.default_rng(seed))
        source, driving = (int(first[name][..., 2].mean().round() / 12 + 0.5) for name in ("source", "driving"))
        assert source <= driving
        frames.add((source, driving))
        second = changed(3, np.random.default_rng(seed))
        mirrored = second["source"][0, 0, 1] < 128
        same = np.array_equal(second["source"], first["driving"]) and np.array_equal(second["driving"], first["source"])
        counts["mirrored" if mirrored else "swapped" if same and source != driving else "left"] += 1
        if mirrored:
            np.testing.assert_array_equal(second["source"], first["source"][:, ::-1])
    assert {index for pair in frames for index in pair} == set(range(12))
    assert any(source == driving for source, driving in frames)  # with replacement
    assert 0.18 < counts["mirrored"] / 400 < 0.32
    assert 0.36 < counts["swapped"] / 400 < 0.54


def test_identity_sampling_draws_among_the_clips(clips: loader.Clips) -> None:
    sampler = Pair(clips, by_identity=True)
    seen = {int(sampler(2, np.random.default_rng(k))["source"][0, -1, 0]) // 20 for k in range(60)}
    assert seen == {3, 4, 5}  # the clips of cleo


def test_jitter_is_the_same_for_both_and_bounded() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(60, 180, (SIZE, SIZE, 3)).astype(np.uint8)
    for _ in range(20):
        first, second = transforms.colour_jitter([picture, picture], JITTER, rng)
        np.testing.assert_array_equal(first, second)
    for name in JITTER:
        changed = transforms.colour_jitter([picture], {name: 0.3}, rng)[0].astype(float)
        assert np.abs(changed - picture).max() > 1
        if name == "brightness":
            ratio = changed.mean() / picture.mean()
            np.testing.assert_allclose(changed, picture * ratio, atol=1.5)
        if name == "contrast":
            assert abs(changed.mean() - picture.mean()) < 6
        if name == "hue":
            np.testing.assert_allclose(changed.max(-1), picture.max(-1), atol=2)
            np.testing.assert_allclose(changed.min(-1), picture.min(-1), atol=4)
    np.testing.assert_array_equal(transforms.colour_jitter([picture], {}, rng)[0], picture)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 0.5), (1.5, 1.5)])
def test_resize_keeps_the_size(scales: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[4:12, 4:12] = 255
    for _ in range(5):
        resized = transforms.resize_and_crop([picture, picture], scales, rng)
        assert resized[0].shape == picture.shape
        np.testing.assert_array_equal(resized[0], resized[1])
        if scales[0] == 1:
            np.testing.assert_array_equal(resized[0], picture)
        if scales[0] == 0.5:
            assert abs((resized[0] > 127).sum() / 3 - 16) <= 8


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ({"colour": 1}, {}, "data.colour: no such key"),
        ({"sampler": "triple"}, {}, "data.sampler 'triple'"),
        ({"size": 256}, {}, "prepare the videos with --size 256"),
        ({"jitter": {"hue": 0.7}}, {}, "data.jitter.hue=0.7"),
        ({"jitter": {"gamma": 0.1}}, {}, "data.jitter.gamma"),
        ({"resize": (1.1, 0.9)}, {}, "data.resize"),
        ({}, {"rows": [4]}, r"rows \(4,\) of a batch of 4: give some of 0 to 3"),
        ({}, {"batch_size": 0}, "a batch of 0 examples"),
        ({"damaged": "mend"}, {}, "data.damaged='mend': there are 'stop' and 'skip'"),
        ({"damaged_share": 2}, {}, "data.damaged_share=2.0: give a share"),
        ({}, {"seed": -1}, "seed -1"),
        ({}, {"workers": -1}, "workers -1"),
    ],
)
def test_wrong_configs_are_one_line(clips: loader.Clips, config: dict, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        loader.batches(clips, config, **{"batch_size": 4, "seed": 0, **options})


@pytest.fixture(scope="module")
def damaged(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of which a record is damaged."""
    copy = tmp_path_factory.mktemp("copy") / "damaged"
    shutil.copytree(dataset, copy)
    damage_record(copy)
    return copy


RECORD = r"damaged, split train: record \d+ of \S+train.array_record\S+ \(\w+\.mp4/\d+\) is damaged"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_named(damaged: Path, workers: int) -> None:
    with pytest.raises(UserError, match=RECORD):
        take(loader.open_clips(damaged, "train"), 20, workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_left_out_and_counted(
    damaged: Path, clips: loader.Clips, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**CONFIG, "by_identity": False, "damaged": "skip", "damaged_share": 0.5}
    hurt = loader.open_clips(damaged, "train")
    unhurt = take(clips, 12, config)
    options: dict = {"batch_size": 4, "seed": 7, "workers": workers}
    with caplog.at_level("WARNING", "reenax"), loader.batches(hurt, config, **options) as batches:
        taken = list(itertools.islice(batches, 12))
        assert len(hurt.left_out) == 1
    same = [
        np.array_equal(batch["source"][k], unhurt["source"][step, k])
        for step, batch in enumerate(taken)
        for k in range(4)
    ]
    assert same.count(False) == 8, "one of the six clips, twice in each of four epochs of 12 batches"
    assert {name for batch in taken for name in batch} == {"source", "driving"}
    assert len(caplog.messages) == 1, "said once"
    assert re.search(RECORD + r" and left out \(1 of 6 so far\)", caplog.messages[0])
    again = take(hurt, 3, config, workers=workers, start=9)
    for name, pictures in again.items():
        np.testing.assert_array_equal(pictures, np.stack([batch[name] for batch in taken[9:]]))


def test_more_damage_than_allowed_ends_the_reading(damaged: Path) -> None:
    config = {**CONFIG, "damaged": "skip", "damaged_share": 0.1}
    with pytest.raises(UserError, match=r"left out \(1 of 6 so far\): more than data.damaged_share=0.1"):
        take(loader.open_clips(damaged, "train"), 20, config)


def test_only_damaged_records_end_the_reading(clips: loader.Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: loader.Clips, index: int, *_: object, **__: object) -> None:
        raise self._unreadable(index, OSError("gone"))

    monkeypatch.setattr(loader.Clips, "examples", unreadable)
    with pytest.raises(UserError, match="is damaged"):
        take(clips, 1, {"damaged": "skip", "damaged_share": 1.0})


def test_a_missing_file_is_named(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(dataset, copy)
    next(copy.glob("*train.array_record*")).unlink()
    with pytest.raises(UserError, match="broken, split train"):
        take(loader.open_clips(copy, "train"), 1)


def test_labels_are_those_of_the_frames(clips: loader.Clips) -> None:
    sampler = make_sampler(clips, {"labels": ("landmarks",), "swap": True})
    for seed in range(20):
        index = seed % len(sampler)
        example = sampler(index, np.random.default_rng(seed))
        part = int(clips.clip_ids[index][-4:])
        for role in ("source", "driving"):
            frame = round(int(example[role][..., 2].mean().round()) / 12)
            assert example[f"{role}_landmarks"].shape == (68, 2)
            np.testing.assert_allclose(example[f"{role}_landmarks"], 0.1 * part + 0.01 * frame, atol=1e-6)


def test_one_frame_with_its_labels(clips: loader.Clips) -> None:
    config = {"sampler": "labelled", "labels": ("landmarks", "bbox"), "by_identity": True}
    assert isinstance(make_sampler(clips, config), Labelled)
    batch = take(clips, 1, config)
    assert {name: rows.shape[1:] for name, rows in batch.items()} == {
        "source": (4, SIZE, SIZE, 3),
        "landmarks": (4, 68, 2),
        "bbox": (4, 4),
    }
    np.testing.assert_array_equal(batch["bbox"][0, 2], [1, 2, 17, 18])  # of the clip, hence of every frame


def test_a_window_is_of_consecutive_frames(clips: loader.Clips) -> None:
    length = min(clips.lengths)
    sampler = make_sampler(clips, {"sampler": "window", "frames": length, "jitter": {"brightness": 0.2}})
    assert len(sampler) == len(clips)
    for index in range(len(sampler)):
        window = sampler(index, np.random.default_rng(index))["frames"]
        assert window.shape == (length, SIZE, SIZE, 3)
    plain = make_sampler(clips, {"sampler": "window", "frames": 3})(0, np.random.default_rng(1))["frames"]
    numbers = [round(int(frame[..., 2].mean().round()) / 12) for frame in plain]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    batch = take(clips, 1, {"sampler": "window", "frames": 3, "flip": True})
    assert batch["frames"].shape == (1, 4, 3, SIZE, SIZE, 3)
    longer = make_sampler(clips, {"sampler": "window", "frames": max(clips.lengths)})
    assert len(longer) == sum(n == max(clips.lengths) for n in clips.lengths)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"sampler": "window"}, "needs a length of 2"),
        ({"sampler": "window", "frames": 1000}, "the longest clip .* has"),
        ({"sampler": "window", "frames": 3, "swap": True}, "data.swap=True: the sampler 'window' knows no data.swap"),
        ({"sampler": "labelled"}, "labels is empty"),
        ({"labels": ("gaze",)}, "has no 'gaze'; it has audio"),
        ({"labels": ("frames",)}, "no array of numbers"),
        ({"labels": ("landmarks",), "flip": True}, "switch these off"),
        ({"sampler": "shots"}, "there are 'pair', 'labelled', 'window', 'people' and 'acted'"),
    ],
)
def test_wrong_labels_are_one_line(clips: loader.Clips, config: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_sampler(clips, config)
