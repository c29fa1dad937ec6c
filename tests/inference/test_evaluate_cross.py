"""Who is animated by whom, what the result is compared with, and what estimators make of it."""

import dataclasses
import json
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines import schema
from data_pipelines.loader import decode_clip, open_clips
from reenax.core.errors import UserError
from reenax.core.types import VideoDrive
from reenax.inference.evaluate import evaluate
from reenax.inference.labelled import drive_of
from reenax.inference.protocols import Trials, available, frames_of
from reenax.inference.readings import SHAPE, estimator_errors, lip_gap, verification
from reenax.inference.scores import box_scores, boxes, correlation
from reenax.methods.estimators import Estimators, Readings
from reenax.train.runs import Trained
from tests.inference import worlds
from tests.inference.toys import Tint, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build_world(tmp_path_factory.mktemp("world"))


def small(method: Any = None) -> Trained:
    model = trained()
    model.config.data.size = worlds.SIZE
    return model if method is None else dataclasses.replace(model, method=method)


class Following(Tint):
    """Gives the driving frame back, and notes what it was asked."""

    def reenactor(self, variables, source, *, anchor: Any = None, mode="relative"):
        variables["asked"]["calls"].append((np.asarray(source.frames), np.asarray(anchor.frames), mode))
        return lambda drive: drive.frames


@dataclasses.dataclass(frozen=True)
class Seeing(Estimators):
    """Reads numbers that are easy to work out: everything follows from the mean colour of the picture."""

    def read(self, variables, pictures):
        red, green, blue = jnp.moveaxis(pictures.mean(axis=(1, 2)), -1, 0)
        count = pictures.shape[0]
        points = jnp.asarray(worlds.faces(np.zeros((1, 2))))
        points = jnp.repeat(points, count, axis=0) + red[:, None, None]
        pose = jnp.zeros((count, 6)).at[:, 2].set(green)
        expression = jnp.broadcast_to(jnp.abs(blue)[:, None], (count, 52))
        return Readings(points, pose, expression, jnp.stack([red, green], axis=-1) @ jnp.ones((2, 80)))


def eyes(**changes: Any) -> Trained:
    model = small(Seeing())
    return dataclasses.replace(model, name="estimators", **changes)


def test_the_cross_protocols_take_the_right_clips(world):
    model = small(Following())
    model = dataclasses.replace(model, variables={"asked": {"calls": []}})
    result = evaluate(model, world, batch_size=4, progress=False)
    assert result.protocols == ("self", "cross", "cross_relative")
    assert [len(result.of(p)) for p in result.protocols] == [6, 3, 3]
    test, cross = open_clips(world, "test"), open_clips(world, "cross")

    def floats(clips, name):
        return decode_clip(clips[clips.clip_ids.index(name)], [0]) / np.float32(127.5) - 1

    for (source, anchor, mode), name in zip(model.variables["asked"]["calls"][6:9], cross.clip_ids, strict=True):
        person, mover = name.split("_as_")
        np.testing.assert_allclose(source, floats(test, f"{person}0"), atol=1e-6)
        np.testing.assert_allclose(anchor, floats(test, f"{mover}1"), atol=1e-6)
        assert mode == "absolute"
    for (source, anchor, mode), name in zip(model.variables["asked"]["calls"][9:], cross.clip_ids, strict=True):
        np.testing.assert_allclose(source, floats(cross, name), atol=1e-6)
        np.testing.assert_allclose(anchor, floats(test, f"{name.split('_as_')[1]}1"), atol=1e-6)
        assert mode == "relative"
    # following the driver is perfect for one's own clip, and the baseline of the same name across people
    means = result.means("self")
    assert means["method"]["l1"] == 0
    assert set(means) == {"method", "copy"}
    for protocol in ("cross", "cross_relative"):
        means = result.means(protocol)
        assert means["method"] == means["copy_driving"]
        assert means["method"]["l1"] > 0
    truth, driving = (decode_clip(c[c.clip_ids.index(n)]) / 255 for c, n in ((cross, "anna_as_bert"), (test, "bert1")))
    measured = result.of("cross")[0]
    assert measured.clip_id == "anna_as_bert"
    assert measured.method["l1"] == pytest.approx(np.abs(truth - driving).mean(), rel=1e-4)


def test_boxes_and_what_is_measured_in_them(world):
    points = worlds.faces(np.array([[0.0, 0.0], [0.9, 0.0]]))
    found = boxes(points, 21)  # pixel k is at -1 + k / 10
    left, right = points[0, :, 0].min(), points[0, :, 0].max()
    np.testing.assert_allclose(found["face"][0, [0, 2]], 10 + 10 * np.array([1.3 * left, 1.3 * right]), atol=1e-5)
    rng = np.random.default_rng(0)
    made, true = (rng.uniform(-1, 1, (2, 21, 21, 3)).astype(np.float32) for _ in range(2))
    made[0] = 0.5 * true[0] + 0.25  # another contrast and brightness
    scores: Any = box_scores(jnp.asarray(made), jnp.asarray(true), found)
    for name in ("face", "mouth"):
        for k, (x0, y0, x1, y1) in enumerate(found[name]):
            rows = slice(max(0, int(np.ceil(y0))), int(np.floor(y1)) + 1)
            columns = slice(max(0, int(np.ceil(x0))), int(np.floor(x1)) + 1)
            part = np.abs(made - true)[k, rows, columns]
            assert part.size
            assert float(scores[f"{name}_l1"][k]) == pytest.approx(part.mean() / 2, rel=1e-5)
    assert float(scores["mouth_pattern"][0]) == pytest.approx(1, abs=1e-5)
    assert abs(float(scores["mouth_pattern"][1])) < 0.5
    outside: Any = box_scores(jnp.asarray(made), jnp.asarray(true), boxes(points + 9, 21))
    assert all(np.isnan(values).all() for values in outside.values())


def test_a_mouth_that_does_not_move_has_no_correlation():
    moving, still = np.sin(np.arange(9)), np.ones(9)
    assert correlation(2 * moving + 1, moving) == pytest.approx(1)
    assert correlation(-moving, moving) == pytest.approx(-1)
    assert correlation(still, moving) == 0
    assert np.isnan(correlation(moving, still))


def test_readings_are_compared_with_the_labels(world):
    result = evaluate(small(), world, protocols=("cross",), estimators=eyes(), batch_size=4, progress=False)
    clips = open_clips(world, "cross")
    assert result.about["estimators"]["reference"] == dict.fromkeys(("landmarks", "pose", "expression"), "label")
    for score in result.clips:
        record = clips[clips.clip_ids.index(score.clip_id)]
        assert score.truth is not None
        assert "l1" not in score.truth
        colour = (decode_clip(record) / 127.5 - 1).mean(axis=(1, 2))
        read = worlds.faces(np.zeros((1, 2))) + colour[:, None, None, 0]
        wrong = np.linalg.norm(read - record["landmarks"], axis=-1).mean(axis=-1)
        eye = np.linalg.norm(record["landmarks"][:, 36] - record["landmarks"][:, 45], axis=-1)
        assert score.truth["nme"] == pytest.approx(100 * (wrong / eye).mean(), rel=1e-3)
        pixels = 127.5 * np.abs(read - record["landmarks"]).mean()
        assert score.truth["akd"] == pytest.approx(pixels, rel=1e-3)
        assert score.truth["expression"] == pytest.approx(
            np.abs(np.abs(colour[:, 2])[:, None] - record["expression"]).mean(), rel=1e-3
        )
        both = colour[:, :2].sum(axis=-1)  # what is read of the shape, 80 times
        assert score.truth["csim"] == pytest.approx((np.sign(both) * np.sign(both.mean())).mean(), abs=1e-4)
        assert score.truth["mouth_opening"] == 0  # the gap that is read does not change
        assert score.copy_driving is not None
        assert score.copy_driving["nme"] != score.truth["nme"]
    gap = np.asarray(lip_gap(jnp.asarray(worlds.faces(np.array([[0.0, 0.0], [0.5, 0.0]])))))
    np.testing.assert_allclose(gap, [0.1, 0.2], atol=1e-6)


def test_without_labels_the_true_frames_are_read(tmp_path):
    plain = worlds.build_world(tmp_path, cross=False, fields=schema.REQUIRED)
    result = evaluate(small(), plain, estimators=eyes(), max_frames=3, progress=False)
    assert result.protocols == ("self",)
    truth = result.means("self")["truth"]
    assert truth["nme"] == 0
    assert truth["csim"] == pytest.approx(1)
    assert "face_l1" not in result.metrics()
    assert result.about["estimators"]["reference"]["pose"] == "read from the true frames"


def test_tables_and_json_hold_all_protocols(world):
    result = evaluate(small(), world, estimators=eyes(), max_frames=3, progress=False)
    text = result.table()
    for title in ("self: tint", "cross, absolute: copy the driving frame", "cross, relative, aligned start: the true"):
        assert title in text
    for title in ("mouth L1", "NME %", "CSIM"):
        assert title in text
    saved = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(saved["protocols"]) == {"self", "cross", "cross_relative"}
    assert len(saved["clips"]) == 12
    assert saved["overall"]["method"] == saved["protocols"]["self"]["method"]
    assert saved["clips"][0]["frames"] == 3


def test_the_estimators_own_errors(world):
    clips = open_clips(world, "test")
    found = estimator_errors(eyes(), clips, batch_size=4, progress=False)
    assert found["frames"] == 6 * worlds.FRAMES
    assert set(found["errors"]) == set(found["guess"])
    labels = np.concatenate([clips[k]["pose"][:, 3:] for k in range(len(clips))])
    spread = np.mean([np.abs(clips[k]["pose"][:, 3:] - labels.mean(axis=0)).mean() for k in range(len(clips))])
    assert found["guess"]["translation"] == pytest.approx(spread, rel=1e-4)
    assert found["errors"]["pose"] > 0
    sums = []
    for k in range(len(clips)):
        coefficients = clips[k][SHAPE]
        both = (decode_clip(clips[k]) / 127.5 - 1).mean(axis=(1, 2))[:, :2].sum(axis=-1)
        sums.append((np.sign(both) * coefficients.sum() / np.linalg.norm(coefficients) / np.sqrt(80)).mean())
    assert found["errors"]["shape"] == pytest.approx(np.mean(sums), abs=1e-4)
    assert found["verification"]["pairs"] == 36 * 35 // 2


def test_verification_counts_pairs():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 5)
    embeddings = rng.normal(size=(4, 8))[people] + 0.7 * rng.normal(size=(20, 8))
    found = verification(embeddings, people)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [(unit[i] @ unit[j], people[i] == people[j]) for i in range(20) for j in range(i)]
    same, other = ([x for x, genuine in pairs if genuine is np.bool_(kind)] for kind in (True, False))
    assert found["auc"] == pytest.approx(np.mean([a > b for a in same for b in other]))
    best = max((np.mean([a >= t for a in same]) + np.mean([b < t for b in other])) / 2 for t in same)
    assert found["accuracy"] == pytest.approx(best)
    assert np.isnan(verification(embeddings[:5], people[:5])["auc"])


def test_what_cannot_be_measured_is_said(world, tmp_path):
    clips = open_clips(world, "train")
    assert available(clips) == ("self",)
    with pytest.raises(UserError, match="protocol 'cross' needs the split 'cross' beside the split 'test'"):
        Trials.open("cross", clips)
    with pytest.raises(UserError, match="no protocol 'both'; the protocols are: self, cross, cross_relative"):
        evaluate(small(), world, protocols=("both",))
    with pytest.raises(UserError, match="estimators are a run of configs/estimators.py"):
        evaluate(small(), world, estimators=small())
    other = eyes(config=trained().config)
    other.config.data.size = 128
    with pytest.raises(UserError, match="32x32, the estimators were trained on 128"):
        evaluate(small(), world, estimators=other)
    with pytest.raises(UserError, match="a frame of anna0 is damaged .* prepare the dataset again"):
        frames_of({"clip_id": "anna0", "frames": [b"no picture"]}, [0])
    narrow = worlds.build_world(tmp_path / "lost", driving_clip="nobody0")
    with pytest.raises(UserError, match="names nobody0 as its driving_clip, which is not in the split 'test'"):
        evaluate(small(), narrow, progress=False)
    bare = worlds.build_world(tmp_path / "bare", fields=schema.REQUIRED | {"landmarks"})
    with pytest.raises(UserError, match="no expression, so the estimators' error cannot be measured"):
        estimator_errors(eyes(), open_clips(bare, "test"))
    with pytest.raises(UserError, match="no driving_clip"):
        evaluate(small(), bare, progress=False)


def test_a_driver_comes_with_the_landmarks_that_the_method_reads(world):
    def landmarks(record, rows, *reads):
        drive = drive_of(record, rows, "video", frozenset(reads))
        assert isinstance(drive, VideoDrive)
        return drive.landmarks

    record = dict(open_clips(world, "test")[0])
    assert landmarks(record, [0, 2]) is None
    np.testing.assert_array_equal(landmarks(record, [0, 2], "landmarks"), record["landmarks"][[0, 2]])
    more = np.random.default_rng(0).normal(size=(len(record["frames"]), 106, 2)).astype(np.float32)
    np.testing.assert_array_equal(landmarks(record | {"landmarks_106": more}, [1], "landmarks_106"), more[[1]])
    with pytest.raises(UserError, match="has no landmarks_106, which the method reads$"):
        landmarks(record, [0], "landmarks_106")


@dataclasses.dataclass(frozen=True)
class Steered(Tint):
    """Copies the source, brighter where the head is turned further; notes the driver. Draws one person only."""

    drives: frozenset[str] = frozenset({"pose", "video"})
    portrays: str = ""
    reads: frozenset[str] = frozenset({"landmarks"})
    options = MappingProxyType({})

    def reenactor(self, variables, source, *, anchor: Any = None):
        variables["asked"]["calls"].append((source, anchor))
        return lambda drive: jnp.clip(source.frames + 0.1 * drive.angles[:, 1, None, None, None], -1, 1)


def test_a_record_s_own_poses_can_drive_and_one_person_alone_be_measured(world):
    calls = []
    model = dataclasses.replace(small(Steered(portrays="bert")), variables={"asked": {"calls": calls}})
    result = evaluate(model, world, driver="pose", batch_size=4, progress=False)
    assert {c.identity for c in result.clips} == {"bert"}
    assert [c.protocol for c in result.clips] == ["self", "self", "cross", "cross_relative"]
    assert result.to_json()["driver"] == "pose"
    assert all(c.copy_driving is None for c in result.clips)
    clips = open_clips(world, "test")
    source, anchor = calls[0]
    np.testing.assert_allclose(source.landmarks, clips[2]["landmarks"][:1])
    np.testing.assert_allclose(anchor.angles, clips[2]["pose"][:1, :3])
    with pytest.raises(UserError, match="no clip shows dora"):
        evaluate(small(Steered(portrays="dora")), world, progress=False)
