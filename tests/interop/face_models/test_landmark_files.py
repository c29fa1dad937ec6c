"""Where the landmarks of a face model are: files of every form, and files that hold none."""

import io
import json
import pickle

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.interop.face_models import read_face_model
from reenax.interop.face_models.landmark_files import Landmarks, read_landmarks
from tests.interop.face_models.made_up_face import made_up_face, one_line
from tests.interop.face_models.made_up_flame import Runs, flame, python2_array

FACE = made_up_face()


def embedding() -> tuple[np.ndarray, np.ndarray]:
    """Triangles and weights that put every landmark on a vertex of the made-up face."""
    ids = np.array([np.flatnonzero((FACE.faces == v).any(1))[0] for v in FACE.landmarks])
    return ids, (FACE.faces[ids] == FACE.landmarks[:, None]).astype(np.float64)


@pytest.mark.parametrize("form", ["npy", "npz", "pkl", "json", "vertices.json", "vertices.npy"])
def test_landmark_files(tmp_path, form):
    ids, weights = embedding()
    path = tmp_path / f"landmarks.{form}"
    static = {"static_lmk_faces_idx": ids[17:], "static_lmk_bary_coords": weights[17:]}
    if form == "npy":
        whole = {**static, "full_lmk_faces_idx": ids[None], "full_lmk_bary_coords": weights[None]}
        np.save(path, np.array(whole, object), allow_pickle=True)
    elif form == "npz":
        np.savez(path, faces=ids, weights=weights)
    elif form == "pkl":
        path.write_bytes(pickle.dumps({"lmk_face_idx": ids, "lmk_b_coords": weights}, 2))
    elif form == "json":
        path.write_text(json.dumps({"faces": ids.tolist(), "weights": weights.tolist()}))
    elif form == "vertices.json":
        path.write_text(json.dumps(FACE.landmarks.tolist()))
    else:
        np.save(path, FACE.landmarks.astype(np.float64))
    (tmp_path / "model.pkl").write_bytes(
        pickle.dumps(flame() | {"f": FACE.faces[:, ::-1] if "v" in form else FACE.faces})
    )
    model = read_face_model("flame", tmp_path / "model.pkl", path)
    np.testing.assert_allclose(model.landmarks(model.mean), FACE.mean[FACE.landmarks], atol=2e-5)


def test_landmarks_of_flames_own_file_with_tensors(tmp_path):
    """Tensors of PyTorch beside what is needed are passed over."""
    ids, weights = embedding()
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n(U\1atR"
    tensor += b"K\0(K\2t(K\1tI00\nccollections\nOrderedDict\n)RtR"
    inner = b"}(U\7dynamic" + tensor + b"U\x12full_lmk_faces_idx" + python2_array(ids)
    inner += b"U\x14full_lmk_bary_coords" + python2_array(weights) + b"u"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1)cnumpy\ndtype\n(U\2O8K\0K\1tR"
    path = tmp_path / "landmark_embedding.npy"
    path.write_bytes(buffer.getvalue() + b"\x80\2" + array + b"I00\n]" + inner + b"atb.")
    places = read_landmarks(path)
    np.testing.assert_array_equal(places.ids, ids)
    np.testing.assert_array_equal(places.weights, weights)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.txt", b"1 2 3"),
        ("a.txt", b"a " * 68),
        ("a.txt", b"1.5 " * 68),
        ("a.txt", b"\xff\xfe" * 68),
        ("a.txt", b"9" * 68 + b" 1" * 67),
        ("a.json", b"{}"),
        ("a.json", b"[" * 90000),
        ("a.json", json.dumps([1.5] * 68).encode()),
        ("a.json", json.dumps([None] * 68).encode()),
        ("a.json", json.dumps({"faces": [1] * 68}).encode()),
        ("a.json", json.dumps({"faces": [1] * 68, "weights": [[1, 2]] * 68}).encode()),
        ("a.json", json.dumps({"faces": [1] * 68, "weights": [[float("nan")] * 3] * 68}).encode()),
        ("a.npy", b"\x93NUMPY"),
        ("a.npy", b"no array"),
        ("a.npz", b"PK"),
        ("a.pkl", b""),
        ("a.pkl", pickle.dumps({"lmk_face_idx": np.zeros(51), "lmk_b_coords": np.zeros((51, 3))})),
    ],
)
def test_files_that_hold_no_landmarks(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_landmarks(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)


def test_hostile_landmark_files(tmp_path):
    mark = tmp_path / "ran"
    np.save(tmp_path / "a.npy", np.array([Runs(mark, exec)], object), allow_pickle=True)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"lmk_face_idx": Runs(mark, exec)}))
    np.savez(tmp_path / "c.npz", faces=np.array([Runs(mark, exec)], object))
    for name in ("a.npy", "b.pkl", "c.npz"):
        with pytest.raises(UserError, match="is not read, since") as error:
            read_landmarks(tmp_path / name)
        one_line(error)
    assert not mark.exists()
    with pytest.raises(UserError, match="is not a file; landmarks are 68 vertex numbers"):
        read_landmarks(tmp_path / "nowhere.txt")
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(UserError, match="too large"):
        read_landmarks(tmp_path / "big.txt")


def test_landmarks_of_another_model(tmp_path, landmarks):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(flame()))

    def said(content: str) -> str:
        path = tmp_path / "other.txt"
        path.write_text(content)
        with pytest.raises(UserError) as error:
            read_face_model("flame", tmp_path / "model.pkl", path)
        return one_line(error)

    assert "landmark_vertices points to vertex 525 of 525" in said(" ".join(["525"] * 68))
    assert "landmark_vertices points to vertex -1" in said(" ".join(["-1"] * 68))
    assert "are they for another mesh, or numbered from 1?" in said(" ".join(map(str, range(68))))


def test_landmarks_in_triangles_follow_the_winding(tmp_path):
    weights = np.tile([0.5, 0.3, 0.2], (68, 1)).astype(np.float32)
    ids = np.array([np.flatnonzero((FACE.faces == v).any(1))[0] for v in FACE.landmarks])
    corners, same = Landmarks(ids, weights).corners(FACE.faces)
    np.testing.assert_array_equal(corners, FACE.faces[ids])
    np.testing.assert_array_equal(same, weights)
    with pytest.raises(UserError, match="lie in triangles"):
        Landmarks(ids + len(FACE.faces), weights).corners(FACE.faces)
