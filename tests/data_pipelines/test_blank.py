"""Blank examples look like the samplers' own of a dataset."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reenax
from data_pipelines import loader
from data_pipelines.blank import blank_example
from data_pipelines.samplers import make_sampler
from reenax.core.errors import UserError
from tests.data_pipelines.conftest import SIZE
from tests.data_pipelines.test_samplers import build

NAMED = "landmarks", "audio"


def forms(example: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: (array.shape, array.dtype) for name, array in example.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "pair", "swap": True, "flip": True, "resize": (0.9, 1.1), "jitter": {"hue": 0.1}},
        {"sampler": "pair", "by_identity": True, "labels": NAMED, "audio_window": 0.1},
        {"sampler": "labelled", "labels": NAMED, "targets": True},
        {"sampler": "window", "frames": 3},
        {"sampler": "people", "people": ("anna", "cleo"), "labels": ("landmarks",)},
    ],
    ids=lambda settings: settings["sampler"],
)
def test_as_of_a_small_dataset(settings: dict[str, Any], dataset: Path) -> None:
    drawn = make_sampler(loader.open_clips(dataset, "train"), settings)(0, np.random.default_rng(0))
    blank = blank_example({"size": SIZE, **settings}, {})
    assert forms(blank) == forms(drawn)
    assert not any(array.any() for name, array in blank.items() if name not in ("source", "driving", "frames"))


@pytest.mark.parametrize("name", ["acted", "labelled"])
def test_as_of_people_who_act(name: str, tmp_path: Path) -> None:
    clips = loader.open_clips(build(tmp_path / "actors"), "train")
    labels = ("landmarks",) if name == "acted" else ("attributes", "acted")
    settings = {"sampler": name, "labels": labels, "size": SIZE}
    drawn = make_sampler(clips, settings)(0, np.random.default_rng(0))
    assert forms(blank_example(settings, {"attributes": 3})) == forms(drawn)


@pytest.mark.parametrize("method", reenax.method_names())
def test_of_every_config(method: str) -> None:
    configs = importlib.import_module(f"configs.{method}")
    for name in configs.NAMES:
        config = configs.get_config(name)
        example = blank_example({**config.data.to_dict(), "size": 16}, {"attributes": 5})
        assert any(array.dtype == np.uint8 and array.shape[-3:] == (16, 16, 3) for array in example.values()), name


def test_a_length_that_only_a_dataset_knows_is_named() -> None:
    with pytest.raises(UserError, match="data.labels: how long 'phonemes' is only a dataset says; leave it out"):
        blank_example({"sampler": "labelled", "labels": ("phonemes",), "size": SIZE}, {})
