"""The scores of an evaluation are those of its definition."""

import json

import numpy as np
import pytest

from data_pipelines.loader import decode_clip, open_clips
from data_pipelines.prepare import prepare
from data_pipelines.video_writer import write_video
from reenax.core.errors import UserError
from reenax.inference.evaluate import evaluate
from tests.inference.toys import SIZE, Tint, trained


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    for identity in range(2):
        frames = np.repeat(np.repeat(rng.integers(60, 180, (20, 8, 8, 3), dtype=np.uint8), 8, 1), 8, 2)
        write_video(folder / f"p{identity}.mp4", frames, 25.0)
    prepare([folder], folder / "data", size=SIZE, faces="none", test_share=0.5)
    return open_clips(folder / "data", "test")


class Copying(Tint):
    """Gives the source back."""

    def reenactor(self, variables, source, *, anchor=None, mode="relative"):
        assert mode == "absolute"
        return lambda drive: source.frames[:1].repeat(len(drive.frames), axis=0)


def test_copying_the_source_scores_as_the_baseline(clips):
    model = trained()
    object.__setattr__(model, "method", Copying())
    result = evaluate(model, clips, max_frames=11, batch_size=4, progress=False)
    method, copy = result.overall()
    assert method == pytest.approx(copy)
    frames = decode_clip(clips[0], range(11)).astype(np.float64) / 255
    assert copy["l1"] == pytest.approx(np.abs(frames - frames[:1]).mean(), rel=1e-4)
    errors = ((frames[1:] - frames[:1]) ** 2).mean((1, 2, 3))
    assert copy["psnr"] == pytest.approx((100 - 10 * np.log10(errors).sum()) / 11, rel=1e-4)
    assert "L1 is -0.0 % below" in result.table() or "L1 is 0.0 % below" in result.table()


def test_table_and_json_hold_every_clip(clips):
    result = evaluate(trained(), clips, progress=False)
    saved = json.loads(json.dumps(result.to_json()))
    assert len(saved["clips"]) == len(clips)
    assert saved["step"] == 7
    assert saved["data_digest"] == clips.digest
    for clip in saved["clips"]:
        assert clip["clip_id"] in result.table()
    assert saved["overall"]["method"]["l1"] != saved["overall"]["copy"]["l1"]


def test_options_reach_the_method_in_the_place_of_absolute_motion(clips):
    plain, moved = (
        evaluate(trained(), clips, options=o, max_frames=5, progress=False) for o in ({}, {"mode": "relative"})
    )
    assert plain.overall()[0] != moved.overall()[0]  # relative to the first frame, which is not the source's colour
    assert moved.to_json()["options"] == {"mode": "relative"}
    assert "tint mode=relative" in moved.summary()
    with pytest.raises(UserError, match="tint has no option speed"):
        evaluate(trained(), clips, options={"speed": "2"})


def test_wrong_models_and_sizes_are_refused(clips):
    with pytest.raises(UserError, match="tint has no reenactment to measure: no clip holds what drives it"):
        evaluate(trained(drives=frozenset({"labels"})), clips)
    with pytest.raises(UserError, match="has no action_units, so nothing can be driven by action_units with it"):
        evaluate(trained(drives=frozenset({"action_units"})), clips)
    with pytest.raises(UserError, match="tint is not driven by pose; it can be measured with video"):
        evaluate(trained(), clips, driver="pose")
    model = trained()
    model.config.data.size = 128
    with pytest.raises(UserError, match="frames of 64x64, tint was trained on 128; prepare with --size 128"):
        evaluate(model, clips)
