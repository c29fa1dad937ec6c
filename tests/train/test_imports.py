"""`reenax import` sends each kind to its reader, and options to the kinds that they are for."""

import pickle

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.face_model import load_face_model
from reenax.interop import face_models
from reenax.train.imports import FROZEN_KINDS, import_file
from tests.interop.face_models.made_up_face import assert_same_face, made_up_face


def test_a_face_model_becomes_one_file(tmp_path):
    face = made_up_face()
    skinning = np.ones((face.count, 1))
    content = {
        "v_template": face.mean / 100,
        "shapedirs": face.identity.transpose(1, 2, 0) / 100,
        "posedirs": np.zeros((face.count, 3, 0)),
        "J_regressor": skinning.T / face.count,
        "weights": skinning,
        "kintree_table": np.array([[-1], [0]]),
        "f": face.faces,
    }
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "landmarks.txt").write_text(" ".join(map(str, face.landmarks)))
    out = tmp_path / "flame.npz"
    said = import_file("flame", tmp_path / "flame.pkl", out, landmarks=tmp_path / "landmarks.txt")
    assert str(out) in said
    assert_same_face(load_face_model(out), face)


@pytest.mark.parametrize("kind", [*FROZEN_KINDS, "fomm"])
def test_landmarks_are_for_face_models(tmp_path, kind):
    with pytest.raises(UserError, match=rf"--landmarks is for face models \(bfm2009.*\), not for {kind}"):
        import_file(kind, tmp_path / "a.pth", tmp_path / "out", landmarks=tmp_path / "b.txt")


@pytest.mark.parametrize("kind", [*FROZEN_KINDS, *face_models.KINDS])
def test_a_config_is_for_methods(tmp_path, kind):
    with pytest.raises(UserError, match=f"--config is for methods, not for {kind}"):
        import_file(kind, tmp_path / "a.pth", tmp_path / "out", config_spec="configs/fomm.py:smoke")


def test_a_config_is_changed_on_the_way(tmp_path, monkeypatch):
    """Whom published files portray, their user has to say."""
    monkeypatch.setattr("reenax.interop.reenactgan.read", lambda folder: {})
    monkeypatch.setattr("reenax.interop.reenactgan.convert", lambda content, method: {"portrays": method.portrays})
    written = {}
    monkeypatch.setattr(
        "reenax.train.imports.save_imported", lambda *given: written.update(config=given[1], of=given[2])
    )
    arguments = ("reenactgan", tmp_path, tmp_path / "out")
    spec = "configs/reenactgan.py:published256"
    import_file(*arguments, config_spec=spec, overrides=["--config.data.people=('Kathleen',)"])
    assert written["of"] == {"portrays": "Kathleen"}
    assert written["config"].data.people == ("Kathleen",)
    import_file(*arguments, config_spec=spec)
    assert written["of"] == {"portrays": "target"}, "nobody in particular"
    with pytest.raises(UserError, match=r"config\.peeple is no key"):
        import_file(*arguments, config_spec=spec, overrides=["--config.peeple=1"])
    with pytest.raises(UserError, match=r"--config\.lr is for methods, not for vgg16; leave it out"):
        import_file("vgg16", tmp_path / "a.pth", tmp_path / "out", overrides=["--config.lr=1"])


@pytest.mark.parametrize("kind", face_models.KINDS)
def test_a_missing_file_is_named(tmp_path, kind):
    with pytest.raises(UserError, match="nowhere"):
        import_file(kind, tmp_path / "nowhere", tmp_path / "out.npz")
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_named_with_all_that_exist(tmp_path):
    with pytest.raises(UserError, match=r"'surrey' is neither .*; known are: .*fomm.*vgg19.*bfm2009.*ict"):
        import_file("surrey", tmp_path / "a", tmp_path / "out")
