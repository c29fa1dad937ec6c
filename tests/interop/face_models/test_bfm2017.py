"""The Basel Face Model of 2017, in HDF5 files written here, and every way to be wrong."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.face_model import load_face_model
from reenax.interop.face_models import convert_face_model, read_face_model
from tests.interop.face_models.made_up_face import (
    COLOUR,
    EXPRESSION,
    IDENTITY,
    assert_same_colours,
    assert_same_face,
    flat,
    made_up_face,
    one_line,
)

FACE = made_up_face()
DEVIATIONS = np.array([3.0, 0.5, 20.0, 1.5])


def hdf5(path: Path, **changes) -> Path:
    """A model of 2017: millimetres, colours to 1, indexes from 0, variances of the components apart."""
    offset = np.full((FACE.count, 3), 0.25)
    variance = DEVIATIONS**2
    content = {
        "shape/model/mean": (FACE.mean - offset).reshape(-1) * 10,
        "shape/model/pcaBasis": flat(FACE.identity) * 10 / DEVIATIONS,
        "shape/model/pcaVariance": variance,
        "shape/representer/points": FACE.mean.T * 10,
        "shape/representer/cells": FACE.faces[:, ::-1].T,
        "expression/model/mean": offset.reshape(-1) * 10,
        "expression/model/pcaBasis": flat(FACE.expression) * 10 / DEVIATIONS[:EXPRESSION],
        "expression/model/pcaVariance": variance[:EXPRESSION],
        "color/model/mean": FACE.colour_mean.reshape(-1),
        "color/model/pcaBasis": flat(FACE.colour_basis) / DEVIATIONS[:COLOUR],
        "color/model/pcaVariance": variance[:COLOUR],
        **{f"{group}/model/noiseVariance": np.float64(0) for group in ("shape", "expression", "color")},
    }
    with h5py.File(path, "w") as file:
        for name, value in (content | changes).items():
            if callable(value):
                value(file, name)
            elif value is not None:
                file[name] = value.astype(np.float32) if np.asarray(value).dtype == np.float64 else value
    return path


def test_2017(tmp_path, landmarks):
    path = hdf5(tmp_path / "model2017-1_bfm_nomouth.h5")
    model = read_face_model("bfm2017", path, landmarks)
    assert_same_face(model, FACE)
    assert_same_colours(model, FACE)
    assert (len(model.identity_basis), len(model.expression_basis)) == (IDENTITY, EXPRESSION)
    assert "model2017-1_bfm_nomouth" in model.name
    with pytest.raises(UserError, match="--landmarks FILE"):
        read_face_model("bfm2017", path)


def elsewhere(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("/etc/hostname", "/x")


def soft(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/shape/model/mean")


def outside(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (FACE.count * 3,), "u1", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((FACE.count * 3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (FACE.count * 3,))
    file.create_virtual_dataset(name, layout)


def huge(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (2**40,), "f4", chunks=(1024,))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("color/model/mean", None, "lacks color/model/mean"),
        ("shape/model/mean", elsewhere, "is a link to elsewhere"),
        ("shape/model/mean", outside, "lies in another file"),
        ("color/model/mean", virtual, "lies in another file"),
        ("color/model/mean", soft, "is a link to elsewhere"),
        ("shape/model/mean", huge, "declares arrays of more than 2048 MiB"),
        ("shape/model/mean", np.bytes_(b"text"), "no array of numbers"),
        ("shape/model/mean", np.zeros(5), r"shape/mean is \[5\] instead of \[1575\]"),
        ("shape/model/mean", np.full(FACE.count * 3, np.nan), "not finite"),
        ("shape/model/mean", FACE.mean.reshape(-1), "the eyes are 0"),
        ("shape/model/pcaVariance", np.zeros(2), "4 components and 2"),
        ("shape/model/pcaVariance", np.full(IDENTITY, -1.0), "no variances"),
        ("shape/representer/cells", FACE.faces.T + 1, "runs from 1 to"),
        ("shape/representer/cells", FACE.faces, r"cells is \[960 3\] instead of \[3 \?\]"),
        ("color/model/mean", FACE.colour_mean.reshape(-1) * 255, "should lie in 0 to 1"),
    ],
)
def test_2017_that_is_inconsistent(tmp_path, landmarks, name, value, words):
    path = hdf5(tmp_path / "model.h5", **{name: value})
    with pytest.raises(UserError, match=words) as error:
        convert_face_model("bfm2017", path, tmp_path / "out.npz", landmarks)
    one_line(error)
    assert not (tmp_path / "out.npz").exists()


def test_truncated_and_foreign_hdf5(tmp_path, landmarks):
    whole = hdf5(tmp_path / "whole.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    for length in (0, 7, 8, 100, 2000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            read_face_model("bfm2017", cut, landmarks)
        assert str(cut) in one_line(error)
    with pytest.raises(UserError, match="is not a file"):
        read_face_model("bfm2017", tmp_path, landmarks)
    with h5py.File(cut, "w") as file:
        file["shape"] = 3
    with pytest.raises(UserError, match="no Basel Face Model of 2017"):
        read_face_model("bfm2017", cut, landmarks)


def test_converted_and_loaded_again(tmp_path, landmarks):
    out = tmp_path / "models" / "bfm2017.npz"
    said = convert_face_model("bfm2017", hdf5(tmp_path / "model.h5"), out, landmarks)
    assert "525 vertices, 4 identity and 3 expression coefficients" in said
    assert "licence" in said
    assert "\n" not in said
    assert_same_face(load_face_model(out), FACE)
    with pytest.raises(UserError, match="exists already"):
        convert_face_model("bfm2017", tmp_path / "model.h5", out, landmarks)
    with pytest.raises(UserError, match=r"ends in \.npz"):
        convert_face_model("bfm2017", tmp_path / "model.h5", tmp_path / "folder", landmarks)
    with pytest.raises(UserError, match="known are: bfm2009, bfm2017, flame, ict"):
        convert_face_model("surrey", tmp_path / "model.h5", tmp_path / "other.npz", landmarks)
