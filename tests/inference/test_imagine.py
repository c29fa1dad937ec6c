"""A video without a driver, by a method that can go on by itself."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from reenax.core.errors import UserError
from reenax.inference import provenance
from reenax.inference.imagine import imagine
from reenax.train.runs import Trained
from tests.data_pipelines.self_made_videos import frames_of
from tests.inference.toys import SIZE, Tint, trained


class Fading(Tint):
    """Grows brighter by itself."""

    def imagine(self, variables, source, length, *, mode="relative", batch_size=8):
        start = source.frames if mode == "relative" else jnp.full_like(source.frames, -1.0)
        return start + jnp.linspace(0, 0.5, length)[:, None, None, None]


@pytest.fixture
def fading() -> Trained:
    tint = trained()
    return Trained(Fading(), {}, tint.config, tint.step, "fading")


@pytest.fixture
def portrait(tmp_path):
    Image.fromarray(np.full((80, 80, 3), 100, np.uint8)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_a_signed_video_of_the_asked_length(fading, portrait, tmp_path):
    report = imagine(fading, portrait, tmp_path / "o.mp4", 9, faces="none")
    made, times = frames_of(tmp_path / "o.mp4")
    assert made.shape == (9, SIZE, SIZE, 3)
    np.testing.assert_allclose(times, np.arange(9) / 25, atol=1e-4)
    np.testing.assert_allclose(made.mean((1, 2, 3)), np.linspace(100, 163.75, 9), atol=3)
    assert report.frames == 9
    assert provenance.read(tmp_path / "o.mp4") is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.mp4", "p.png"]
    imagine(fading, portrait, tmp_path / "a.mp4", 3, faces="none", credentials=False, options={"mode": "absolute"})
    assert frames_of(tmp_path / "a.mp4")[0][0].mean() < 10


def test_refusals(fading, portrait, tmp_path):
    for model, out, options, message in (
        (trained(), "o.mp4", {}, "tint does not go on by itself, it needs a driver: give --driving"),
        (fading, "o.png", {}, "name ending in .mp4"),
        (fading, "o.mp4", {"adapt_scale": "yes"}, "adapt_scale is about a driver"),
    ):
        with pytest.raises(UserError, match=message):
            imagine(model, portrait, tmp_path / out, 3, options=options, faces="none")
    assert not list(tmp_path.glob("o.*"))
