"""ICT-FaceKit: a folder of OBJ files written here, and every way in which it can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.head.names import EXPRESSIONS
from reenax.interop.face_models import convert_face_model, ict, read_face_model
from tests.interop.face_models.made_up_face import COLUMNS, ROWS, assert_same_face, made_up_face, one_line

FACE = made_up_face()
SHAPES = ["eyeBlink_L", "jawOpen", "browInnerUp_R"]
# the shapes that the repository lists
_PAIRED = [
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "cheekPuff",
    "cheekSquint",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
]
_SINGLE = [
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthLeft",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
]
PUBLISHED = _SINGLE + [f"{name}_{side}" for name in _PAIRED for side in "LR"]


def obj(vertices: np.ndarray, faces: bool = False) -> str:
    """A mesh of quads with texture coordinates of its own numbering."""
    lines = ["mtllib material.mtl", *(f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in vertices)]
    if faces:
        count = len(vertices)
        lines += [f"vt {i / count:.6f} {1 - i / count:.6f}" for i in reversed(range(count))]
        for row in range(ROWS - 1):
            for column in range(COLUMNS - 1):
                a = row * COLUMNS + column
                quad = (a, a + COLUMNS, a + COLUMNS + 1, a + 1)
                lines.append("f " + " ".join(f"{i + 1}/{count - i}" for i in quad))
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "ICT-FaceKit" / "FaceXModel"
    place.mkdir(parents=True)
    (place / "generic_neutral_mesh.obj").write_text(obj(FACE.mean, faces=True))
    for i, field in enumerate(FACE.identity):
        (place / f"identity{i:03d}.obj").write_text(obj(FACE.mean + field))
    for name, field in zip(SHAPES, FACE.expression, strict=True):
        (place / f"{name}.obj").write_text(obj(FACE.mean + field))
    (place / "PupilDilate_L.obj").write_text("not listed, not read")
    described = {"expressions": SHAPES, "idx_to_landmark_verts": FACE.landmarks.tolist(), "idx_to_fitting_verts": [1]}
    (place / "vertex_indices.json").write_text(json.dumps(described))
    return place


@pytest.mark.parametrize("level", ["repository", "folder"])
def test_a_checkout(folder, level):
    model = read_face_model("ict", folder.parent if level == "repository" else folder)
    assert_same_face(model, FACE)
    assert model.expression_names == ("eyeBlinkLeft", "jawOpen", "browInnerUpRight")
    assert "MIT" in model.licence
    assert model.albedo_mean is None
    place = np.arange(FACE.count) / FACE.count
    np.testing.assert_allclose(model.uv, np.stack([place, 1 - place], -1), atol=1e-5)


def test_the_users_landmarks_come_first(folder, tmp_path):
    moved = FACE.landmarks.copy()
    moved[8] -= COLUMNS  # the chin one row up
    (tmp_path / "landmarks.txt").write_text(" ".join(map(str, moved)))
    model = read_face_model("ict", folder, tmp_path / "landmarks.txt")
    np.testing.assert_allclose(model.landmarks(model.mean)[8], FACE.mean[moved[8]], atol=1e-5)


def test_clockwise_files_are_turned(folder):
    path = folder / "generic_neutral_mesh.obj"
    lines = [
        "f " + " ".join(reversed(line.split()[1:])) if line.startswith("f ") else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines))
    assert_same_face(read_face_model("ict", folder), FACE)


def test_names_are_apples():
    named = [ict.apple_name(name) for name in PUBLISHED]
    assert len(set(named)) == 53
    other = {"browInnerUpLeft", "browInnerUpRight", "cheekPuffLeft", "cheekPuffRight"}
    assert set(named) - set(EXPRESSIONS) == other
    assert set(EXPRESSIONS) - set(named) == {"browInnerUp", "cheekPuff", "tongueOut"}


def test_the_full_topology_has_its_parts():
    regions = ict._regions(26719)
    assert {name: int(mask.sum()) for name, mask in regions.items()} == {
        "face": 9409,
        "narrow face": 6706,
        "skin": 11248,
        "mouth": 2046,
        "eye sockets": 768,
        "gums and tongue": 2977,
        "teeth": 4412,
        "eyes": 3140,
        "lacrimal fluid": 408,
        "eye blend": 48,
        "eye occlusion": 304,
        "eyelashes": 1368,
    }
    assert ict._regions(100) == {}


def test_obj_files_of_other_programs(tmp_path):
    path = tmp_path / "mesh.obj"
    path.write_text(
        "# made by hand\r\no thing\r\nv 0 0 0 0.5 0.5 0.5\r\nv 1 0 0\r\nv 1 1 0\r\nv 0.5 2 1e-3\r\nv 0 1 0\r\n"
        "vn 0 0 1\r\ns off\r\nf 1//1 2//1 3//1 4//1 5//1\r\nf 1 2 3\r\nl 1 2\r\n"
    )
    mesh = ict.read_obj(path)
    np.testing.assert_array_equal(mesh.vertices[3], [0.5, 2, 0.001])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2]])
    assert mesh.uv is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has 0 vertices and is no mesh"),
        ("v 0 0 0\nv 1 0\nv 1 1 1\n", "a line 'v' lacks its 3 numbers"),
        ("v 0 0 0\nv 1 0 x\nv 1 1 1\n", "a line 'v' lacks its 3 numbers"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2 4\n", "triangles runs from 1 to 4"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf 0 1 2\n", "triangles runs from 0 to 2"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf -1 -2 -3\n", "triangles runs from -3"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf a b c\n", "a line 'f' holds no numbers"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2 99999999999999999999\n", "a line 'f' holds no numbers"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2 " + "9" * 5000 + "\n", "a line 'f' holds no numbers"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2\n", "triangles holds no indexes"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 1\nvt 0 0\nf 1/1 2/1 3/2\n", "texture coordinates runs from 1 to 2"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "only a pointer of Git LFS"),
    ],
)
def test_damaged_obj_files(tmp_path, content, words):
    (tmp_path / "mesh.obj").write_text(content)
    with pytest.raises(UserError) as error:
        ict.read_obj(tmp_path / "mesh.obj")
    assert words in one_line(error)


def test_broken_folders(folder, tmp_path):
    out = tmp_path / "out.npz"

    def said() -> str:
        with pytest.raises(UserError) as error:
            convert_face_model("ict", folder, out)
        assert not out.exists()
        return one_line(error)

    def changed(name: str, content: str) -> str:
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        text = said()
        (folder / name).write_text(before)
        return text

    assert "identity002.obj is [524 3] instead of [525 3]" in changed("identity002.obj", obj(FACE.mean[:-1]))
    assert "identity_basis holds numbers that are not finite" in changed("identity002.obj", obj(FACE.mean * np.nan))
    assert "jawOpen.obj has 0 vertices" in changed("jawOpen.obj", "")
    assert "triangles holds no indexes" in changed("generic_neutral_mesh.obj", obj(FACE.mean))
    assert "cm apart" in changed("generic_neutral_mesh.obj", obj(FACE.mean / 10, faces=True))
    for damaged in (
        "",
        "[]",
        "{}",
        "[" * 90000,
        '{"expressions": "ab", "idx_to_landmark_verts": []}',
        '{"expressions": ["../../etc/passwd"], "idx_to_landmark_verts": []}',
        '{"expressions": ["a", "a"], "idx_to_landmark_verts": []}',
        '{"expressions": ["a"], "idx_to_landmark_verts": [1.5]}',
        '{"expressions": ["a"], "idx_to_landmark_verts": [' + "9" * 500 + "]}",
    ):
        assert "vertex_indices.json is damaged" in changed("vertex_indices.json", damaged)
    described = json.loads((folder / "vertex_indices.json").read_text())
    other = {**described, "idx_to_landmark_verts": [9999] * 68}
    assert "idx_to_landmark_verts runs from 9999" in changed("vertex_indices.json", json.dumps(other))
    other = {**described, "idx_to_landmark_verts": [1] * 51}
    assert "idx_to_landmark_verts is [51] instead of [68]" in changed("vertex_indices.json", json.dumps(other))
    other = {**described, "expressions": ["mouthLeft"]}
    assert "lacks mouthLeft.obj" in changed("vertex_indices.json", json.dumps(other))
    (folder / "identity001.obj").rename(folder / "identity009.obj")
    assert "4 identity shapes, not numbered" in said()
    (folder / "vertex_indices.json").unlink()
    assert "lacks vertex_indices.json" in said()
    (folder / "generic_neutral_mesh.obj").unlink()
    assert "lacks generic_neutral_mesh.obj" in said()


def test_files_too_large_are_not_read(folder):
    with (folder / "identity000.obj").open("ab") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_face_model("ict", folder)
