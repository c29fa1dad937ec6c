"""The Basel Face Model of 2009: every form in which it comes, in files written here, and every way to be wrong."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reenax.core.errors import UserError
from reenax.interop.face_models import convert_face_model, read_face_model
from tests.interop.face_models.made_up_face import (
    COLOUR,
    EXPRESSION,
    assert_same_colours,
    assert_same_face,
    flat,
    made_up_face,
    one_line,
)

FACE = made_up_face()
DEVIATIONS = np.array([3.0, 0.5, 20.0, 1.5])


def basel(**changes) -> dict[str, np.ndarray]:
    """01_MorphableModel.mat: micrometres, colours to 255, indexes from 1, clockwise triangles."""
    segments = np.zeros((FACE.count, 4), bool)
    nearest = np.abs(FACE.mean[:, 1:2] - np.array([[0, 3, -5, 20]])).argmin(1)
    segments[np.arange(FACE.count), nearest] = True
    segments[np.abs(FACE.mean[:, 0]) > 5] = [False, False, False, True]
    content = {
        "shapeMU": (flat(FACE.mean) * 1e4).astype(np.float32),
        "shapePC": (flat(FACE.identity) * 1e4 / DEVIATIONS).astype(np.float32),
        "shapeEV": DEVIATIONS.astype(np.float32)[:, None],
        "texMU": (flat(FACE.colour_mean) * 255).astype(np.float32),
        "texPC": (flat(FACE.colour_basis) * 255 / DEVIATIONS[:COLOUR]).astype(np.float32),
        "texEV": DEVIATIONS[:COLOUR, None].astype(np.float32),
        "tl": FACE.faces[:, ::-1].astype(np.float64) + 1,
        "segbin": segments[:, [2, 0, 3, 1]],
        "segMM": np.zeros((3, 3)),
        "note": "text is passed over",
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def front(**changes) -> dict[str, np.ndarray]:
    """BFM_model_front.mat: decimetres, colours to 255, indexes from 1."""
    content = {
        "meanshape": flat(FACE.mean).T / 10,
        "meantex": flat(FACE.colour_mean).T * 255,
        "idBase": flat(FACE.identity) / 10,
        "exBase": flat(FACE.expression) / 10,
        "texBase": flat(FACE.colour_basis) * 255,
        "tri": FACE.faces + 1,
        "point_buf": np.ones((FACE.count, 8)),
        "tri_mask2": FACE.faces[:10] + 1,
        "keypoints": FACE.landmarks[None] + 1,
        "frontmask2_idx": np.arange(1, 101)[:, None],
        "skinmask": (np.arange(FACE.count) % 2)[None],
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def written(path: Path, content: dict[str, np.ndarray], compressed: bool = False) -> Path:
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_2009_as_basel_gives_it(tmp_path, landmarks, compressed):
    path = written(tmp_path / "01_MorphableModel.mat", basel(), compressed)
    model = read_face_model("bfm2009", path, landmarks)
    assert_same_face(model, FACE)
    assert_same_colours(model, FACE)
    assert model.expression_basis.shape == (0, FACE.count, 3)
    assert set(model.regions) == {"nose", "eyes", "mouth", "cheeks"}
    for name, landmark in {"nose": 30, "eyes": 37, "mouth": 62, "cheeks": 1}.items():
        assert bool(model.regions[name][FACE.landmarks[landmark]]), name
    assert sum(int(mask.sum()) for mask in model.regions.values()) == FACE.count


def test_2009_needs_landmarks_and_says_how(tmp_path):
    path = written(tmp_path / "01_MorphableModel.mat", basel())
    with pytest.raises(UserError) as error:
        convert_face_model("bfm2009", path, tmp_path / "out.npz")
    assert "--landmarks FILE" in one_line(error)
    assert not (tmp_path / "out.npz").exists()


def test_2009_front_finished(tmp_path):
    model = read_face_model("bfm2009", written(tmp_path / "BFM_model_front.mat", front()))
    assert_same_face(model, FACE)
    assert_same_colours(model, FACE)
    assert int(model.regions["face"].sum()) == 100
    assert bool(model.regions["face"][0])
    assert not bool(model.regions["face"][100])
    assert not bool(model.regions["skin"][0])
    assert bool(model.regions["skin"][1])


TRIM = np.setdiff1d(np.arange(FACE.count), [0, 5, FACE.count - 1])
FRONT = np.flatnonzero(np.abs(FACE.mean[TRIM][:, 1]) < 9.9)


def with_parts(folder: Path, fronts: bool) -> Path:
    folder.mkdir()
    written(folder / "01_MorphableModel.mat", basel())
    fields = FACE.expression[:, TRIM].reshape(EXPRESSION, -1) * 1e4 / DEVIATIONS[:EXPRESSION, None]
    content = np.int32(EXPRESSION).tobytes() + np.ones(3 * len(TRIM), "<f4").tobytes() + fields.astype("<f4").tobytes()
    (folder / "Exp_Pca.bin").write_bytes(content)
    (folder / "std_exp.txt").write_text(" ".join(map(str, DEVIATIONS[:EXPRESSION])))
    written(folder / "BFM_exp_idx.mat", {"trimIndex": TRIM[:, None] + 1.0})
    if fronts:
        kept = TRIM[FRONT]
        place = np.full(FACE.count, -1)
        place[kept] = np.arange(len(kept))
        faces = place[FACE.faces]
        faces = faces[(faces >= 0).all(1)]
        written(folder / "BFM_front_idx.mat", {"idx": FRONT[:, None] + 1})
        info = {
            "tri": faces[::3] + 1,
            "keypoints": place[FACE.landmarks][None] + 1,
            "skinmask": np.ones((1, len(kept))),
        }
        written(folder / "facemodel_info.mat", info)
    return folder


def test_2009_with_expressions(tmp_path):
    path = tmp_path / "landmarks.json"
    path.write_text(str(np.searchsorted(TRIM, FACE.landmarks).tolist()))
    model = read_face_model("bfm2009", with_parts(tmp_path / "parts", fronts=False), path)
    assert_same_face(model, FACE, TRIM)
    assert len(model.expression_basis) == EXPRESSION
    assert 0 < len(FACE.faces) - len(model.faces) <= 8  # those around the three vertices left out


def test_2009_front_from_its_parts(tmp_path):
    model = read_face_model("bfm2009", with_parts(tmp_path / "parts", fronts=True))
    assert_same_face(model, FACE, TRIM[FRONT])
    assert bool(model.regions["skin"].all())
    assert len(model.expression_basis) == EXPRESSION


@pytest.mark.parametrize(
    "name", ["01_MorphableModel.mat", "Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat", "facemodel_info.mat"]
)
def test_missing_parts_are_named(tmp_path, name):
    folder = with_parts(tmp_path / "parts", fronts=True)
    (folder / name).unlink()
    with pytest.raises(UserError) as error:
        read_face_model("bfm2009", folder)
    assert f"lacks {name}" in one_line(error)


def test_damaged_parts_are_named(tmp_path):
    folder = with_parts(tmp_path / "parts", fronts=True)

    def said() -> str:
        with pytest.raises(UserError) as error:
            read_face_model("bfm2009", folder)
        return one_line(error)

    expressions = (folder / "Exp_Pca.bin").read_bytes()
    for content in (b"", b"\x03", expressions[:-1], expressions + b"0", b"\xff\xff\xff\xff" + expressions[4:]):
        (folder / "Exp_Pca.bin").write_bytes(content)
        assert "Exp_Pca.bin has" in said()
    (folder / "Exp_Pca.bin").write_bytes(b"\x03\0\0\0" + b"\xff" * (len(expressions) - 4))  # not numbers
    assert "expression_basis holds numbers that are not finite" in said()
    (folder / "Exp_Pca.bin").write_bytes(expressions)
    for text, words in {
        "1 2": "2 standard",
        "a b c": "no list",
        "1 2 -3": "not all positive",
        "1 2 nan": "not all",
    }.items():
        (folder / "std_exp.txt").write_text(text)
        assert words in said()
    (folder / "std_exp.txt").write_text("1 2 3")
    for content, words in (
        ({"a": TRIM[:, None], "b": TRIM[:, None]}, "2 lists"),
        ({"a": TRIM[:, None] + 4}, "runs from"),
        ({"a": TRIM[:, None] * 0 + 1}, "names a vertex twice"),
        ({"a": TRIM[:, None] + 0.5}, "instead of whole numbers"),
    ):
        written(folder / "BFM_exp_idx.mat", content)
        assert words in said()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shapePC": None}, "lacks shapePC"),
        ({"shapePC": flat(FACE.identity)[:-3]}, r"shapePC is \[1572 4\] instead of \[1575 \?\]"),
        ({"shapePC": flat(FACE.identity) + np.nan}, "identity_basis holds numbers that are not finite"),
        ({"shapePC": flat(FACE.identity).astype(complex)}, "lacks shapePC"),
        ({"shapePC": np.array([["text"]], object)}, "lacks shapePC"),
        ({"shapeMU": np.full((FACE.count * 3, 1), np.inf)}, "mean holds numbers that are not finite"),
        ({"shapeMU": np.full((FACE.count * 3, 1), 1e300)}, "mean holds numbers that are not finite"),
        ({"shapeMU": flat(FACE.mean) * 1e3}, "the eyes are 0.6.* cm apart"),
        ({"shapeMU": flat(FACE.mean)[:-1]}, "instead of triples"),
        ({"shapeMU": FACE.mean}, "no vector"),
        ({"shapeMU": flat(FACE.mean * [-1, -1, 1]) * 1e4}, "side by side along x"),
        ({"shapeMU": flat(FACE.mean * [1, 1, -1]) * 1e4}, "tip of the nose"),
        ({"shapeEV": DEVIATIONS[:3, None]}, "4 components and 3 standard deviations"),
        ({"shapeEV": -DEVIATIONS[:, None]}, "not all positive"),
        ({"tl": FACE.faces}, "tl runs from 0 to"),
        ({"tl": FACE.faces + 2}, f"tl runs from 2 to {FACE.count + 1}"),
        ({"tl": FACE.faces + 1.5}, "whole numbers"),
        ({"tl": FACE.faces[:, :2] + 1}, r"tl is \[960 2\]"),
        ({"tl": np.zeros((0, 3))}, "tl holds no indexes|tl is"),
        ({"tl": np.full((4, 3), np.nan)}, "tl runs from nan"),
        ({"texMU": flat(FACE.mean)[:-3]}, "texMU has 1572 numbers instead of 1575"),
    ],
)
def test_2009_that_is_inconsistent(tmp_path, landmarks, change, words):
    path = written(tmp_path / "model.mat", basel(**change))
    with pytest.raises(UserError, match=words) as error:
        convert_face_model("bfm2009", path, tmp_path / "out.npz", landmarks)
    one_line(error)
    assert not (tmp_path / "out.npz").exists()


def test_front_that_is_inconsistent(tmp_path):
    for change, words in (
        ({"keypoints": None}, "lacks keypoints"),
        ({"keypoints": FACE.landmarks[None, :60] + 1}, r"keypoints is \[60\] instead of \[68\]"),
        ({"keypoints": FACE.landmarks[None] * 0}, "keypoints runs from 0"),
        ({"frontmask2_idx": np.array([[FACE.count + 1]])}, "frontmask2_idx runs"),
        ({"skinmask": np.ones((1, 5))}, "skinmask is"),
        ({"keypoints": FACE.landmarks[None, ::-1] + 1}, "landmarks do not fit"),
    ):
        path = written(tmp_path / "front.mat", front(**change))
        with pytest.raises(UserError, match=words) as error:
            read_face_model("bfm2009", path)
        one_line(error)


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_and_flipped_mat_files(tmp_path, compressed):
    whole = written(tmp_path / "whole.mat", front(), compressed).read_bytes()
    cut = tmp_path / "cut.mat"
    for length in (0, 1, 100, 127, 128, 130, 200, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            read_face_model("bfm2009", cut)
        assert str(cut) in one_line(error)
    rng = np.random.default_rng(0)
    for place in rng.integers(128, len(whole), 30):
        cut.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(UserError):  # a flipped number of an uncompressed file cannot be noticed
            read_face_model("bfm2009", cut)


def test_files_of_other_formats(tmp_path):
    other = tmp_path / "model.mat"
    for content, words in (
        (b"", "is no MATLAB file"),
        (b"hello, I am a text file" * 20, "is no MATLAB file"),
        (b"\0" * 500, "is no MATLAB file"),
        (b"MATLAB 7.3 MAT-file" + bytes(500), "version 7.3; save it again"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "version 7.3"),
    ):
        other.write_bytes(content)
        with pytest.raises(UserError, match=words) as error:
            read_face_model("bfm2009", other)
        one_line(error)
    with pytest.raises(UserError, match="is not a file"):
        read_face_model("bfm2009", tmp_path / "nowhere.mat")
    scipy.io.savemat(other, {"a": np.zeros(3)})
    with pytest.raises(UserError, match="no Basel Face Model of 2009"):
        read_face_model("bfm2009", other)
