"""The common type of face models: its formulas against plain loops, its file, and every way a file can be wrong."""

import io
import json
import os
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.transform

from reenax.core.errors import UserError
from reenax.geometry.array_files import read_arrays, write_arrays
from reenax.geometry.face_model import FaceModel, Skeleton, check_face_model, load_face_model, save_face_model
from reenax.geometry.rotations import rotation_matrices

V, K, E, A, F, J = 30, 4, 3, 2, 11, 5
PARENTS = (-1, 0, 1, 1, 1)


def made_up(seed: int = 0) -> FaceModel:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def weights(*shape: int) -> jax.Array:
        value = rng.random(shape)
        return jnp.asarray(value / value.sum(1, keepdims=True), jnp.float32)

    return FaceModel(
        mean=normal(V, 3),
        identity_basis=normal(K, V, 3),
        expression_basis=normal(E, V, 3),
        faces=jnp.asarray(rng.integers(0, V, (F, 3)), jnp.int32),
        landmark_vertices=jnp.asarray(rng.integers(0, V, (68, 3)), jnp.int32),
        landmark_weights=weights(68, 3),
        albedo_mean=normal(V, 3),
        albedo_basis=normal(A, V, 3),
        uv=normal(V, 2),
        regions={"face": jnp.asarray(rng.random(V) < 0.5), "mouth": jnp.asarray(rng.random(V) < 0.2)},
        skeleton=Skeleton(weights(J, V), weights(V, J), normal((J - 1) * 9, V, 3), PARENTS),
        name="made up",
        licence="anybody's",
        expression_names=("jawOpen", "cheekPuff", "mouthPucker"),
    )


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return made_up()


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_shape_and_landmarks_are_the_sums_that_they_claim_to_be(model):
    rng = np.random.default_rng(1)
    identity, expression = rng.normal(size=K).astype(np.float32), rng.normal(size=E).astype(np.float32)
    expected = np.array(model.mean, np.float64)
    for weight, field in zip(identity, np.asarray(model.identity_basis), strict=True):
        expected += weight * field
    for weight, field in zip(expression, np.asarray(model.expression_basis), strict=True):
        expected += weight * field
    vertices = model.shape(jnp.asarray(identity), jnp.asarray(expression))
    np.testing.assert_allclose(vertices, expected, atol=1e-5)
    landmarks = model.landmarks(vertices)
    for i in range(68):
        corners = expected[np.asarray(model.landmark_vertices)[i]]
        by_hand = sum(w * c for w, c in zip(np.asarray(model.landmark_weights)[i], corners, strict=True))
        np.testing.assert_allclose(landmarks[i], by_hand, atol=1e-5)


def test_coefficients_of_another_length_are_refused(model):
    with pytest.raises(TypeError):
        model.shape(jnp.zeros(K - 1), jnp.zeros(E))


def test_albedo(model):
    expected = model.albedo_mean + 0.5 * model.albedo_basis[0] - 2 * model.albedo_basis[1]
    np.testing.assert_allclose(model.albedo(jnp.array([0.5, -2.0])), expected, atol=1e-6)
    with pytest.raises(UserError, match="made up has no albedo"):
        model.replace(albedo_mean=None, albedo_basis=None).albedo(jnp.zeros(A))


def test_rotations_are_scipys_and_have_gradients_at_rest():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 3)) * np.geomspace(1e-7, 4, 50)[:, None]
    expected = scipy.spatial.transform.Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotation_matrices(jnp.asarray(vectors, jnp.float32)), expected, atol=2e-6)
    gradient = jax.jacobian(rotation_matrices)(jnp.zeros(3))
    generators = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        generators[k, j, i], generators[j, k, i] = 1, -1
    np.testing.assert_allclose(gradient, generators, atol=1e-6)


def posed_by_hand(model: FaceModel, identity, expression, rotations) -> np.ndarray:
    """Skinning with 4 x 4 matrices in plain loops."""
    skeleton = model.skeleton
    assert skeleton is not None
    mean, basis = np.asarray(model.mean, np.float64), np.asarray(model.identity_basis, np.float64)
    neutral = mean + sum(c * b for c, b in zip(identity, basis, strict=True))
    vertices = neutral + sum(c * b for c, b in zip(expression, np.asarray(model.expression_basis), strict=True))
    joints = np.asarray(skeleton.joint_regressor, np.float64) @ neutral
    turns = scipy.spatial.transform.Rotation.from_rotvec(rotations).as_matrix()
    row = 0
    for joint in range(1, J):
        for a in range(3):
            for b in range(3):
                vertices = vertices + (turns[joint, a, b] - (a == b)) * np.asarray(skeleton.pose_basis)[row]
                row += 1
    world = []
    for joint, parent in enumerate(skeleton.parents):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    result = np.zeros_like(vertices)
    for v in range(V):
        for j in range(J):
            back = np.append(vertices[v] - joints[j], 1.0)
            result[v] += np.asarray(skeleton.skinning)[v, j] * (world[j] @ back)[:3]
    return result


def test_posing_is_skinning_by_hand(model):
    rng = np.random.default_rng(2)
    identity, expression, rotations = rng.normal(size=K), rng.normal(size=E), rng.normal(size=(J, 3))
    arguments = [jnp.asarray(x, jnp.float32) for x in (identity, expression, rotations)]
    expected = posed_by_hand(model, identity, expression, rotations)
    np.testing.assert_allclose(jax.jit(FaceModel.posed)(model, *arguments), expected, atol=1e-4)
    at_rest = model.posed(arguments[0], arguments[1], jnp.zeros((J, 3)))
    np.testing.assert_allclose(at_rest, model.shape(arguments[0], arguments[1]), atol=1e-5)
    with pytest.raises(UserError, match="no joints"):
        model.replace(skeleton=None).posed(*arguments)


def test_a_model_is_an_argument_of_compiled_functions(model):
    shapes = jax.eval_shape(lambda m: m.replace(mean=2 * m.mean), model)
    assert shapes.mean.shape == (V, 3)
    many = jax.tree.map(lambda *x: jnp.stack(x), model, made_up(3).replace(skeleton=model.skeleton))
    vertices = jax.jit(jax.vmap(FaceModel.shape))(many, jnp.ones((2, K)), jnp.ones((2, E)))
    np.testing.assert_allclose(vertices[0], model.shape(jnp.ones(K), jnp.ones(E)), atol=1e-5)
    assert len(jax.tree.leaves(model)) == 14


@pytest.mark.parametrize("bare", [False, True], ids=["all", "least"])
def test_there_and_back(model, tmp_path, bare):
    if bare:
        model = model.replace(albedo_mean=None, albedo_basis=None, uv=None, regions={}, skeleton=None)
        model = model.replace(expression_names=(), expression_basis=jnp.zeros((0, V, 3)))
    path = tmp_path / "new" / "model.npz"
    save_face_model(model, path)
    loaded = load_face_model(path)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, loaded, model)
    assert [p.name for p in path.parent.iterdir()] == ["model.npz"]
    assert loaded.licence == "anybody's"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": jnp.zeros((V, 2))}, r"mean is float32 \[30 2\] instead of float32 \[30 3\]|mean is"),
        ({"mean": jnp.full((V, 3), jnp.nan)}, "mean holds numbers that are not finite"),
        ({"identity_basis": jnp.zeros((K, V + 1, 3))}, r"identity_basis is float32 \[4 31 3\]"),
        ({"identity_basis": None}, "lacks identity_basis"),
        ({"faces": jnp.full((F, 3), V)}, "faces points to vertex 30 of 30"),
        ({"faces": jnp.full((F, 3), -1)}, "faces points to vertex -1 of 30"),
        ({"faces": jnp.zeros((0, 3), jnp.int32)}, "faces is empty"),
        ({"faces": jnp.zeros((F, 3))}, r"faces is float32 \[11 3\] instead of int32"),
        ({"landmark_vertices": jnp.full((68, 3), 99)}, "landmark_vertices points to vertex 99"),
        ({"landmark_vertices": jnp.zeros((51, 3), jnp.int32)}, r"\[51 3\] instead of int32 \[68 3\]"),
        ({"landmark_weights": jnp.zeros((68, 3))}, "landmark_weights has rows that do not sum to 1"),
        ({"albedo_basis": None}, "only one"),
        ({"regions": {"face": jnp.zeros(V)}}, "region face is float32"),
        ({"expression_names": ("one",)}, "names 1 expressions and has 3"),
        ({"uv": jnp.zeros((V, 3))}, r"uv is float32 \[30 3\] instead of float32 \[30 2\]"),
    ],
)
def test_inconsistent_models_are_not_written(model, tmp_path, change, words):
    with pytest.raises(UserError, match=words) as error:
        save_face_model(model.replace(**change), tmp_path / "model.npz")
    one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parents": (0, 0, 1, 1, 1)}, "no tree"),
        ({"parents": (-1, 2, 1, 1, 1)}, "no tree"),
        ({"parents": ()}, "no tree"),
        ({"parents": (-1, 0, 1, 1)}, "joint_regressor is"),
        ({"skinning": jnp.zeros((V, J))}, "skinning has rows that do not sum to 1"),
        ({"pose_basis": jnp.zeros((9, V, 3))}, r"pose_basis is float32 \[9 30 3\] instead of float32 \[36 30 3\]"),
    ],
)
def test_inconsistent_skeletons_are_refused(model, change, words):
    with pytest.raises(UserError, match=words):
        check_face_model(model.replace(skeleton=model.skeleton.replace(**change)))


def test_a_write_that_fails_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    save_face_model(model, path)
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        save_face_model(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    with pytest.raises(UserError, match=r"ends in \.npz"):
        save_face_model(model, tmp_path / "model.mat")


@pytest.fixture
def parts(model, tmp_path) -> dict[str, np.ndarray]:
    save_face_model(model, tmp_path / "whole.npz")
    return read_arrays(tmp_path / "whole.npz")


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        load_face_model(path)
    text = one_line(error)
    assert str(path) in text
    return text


def test_truncated_and_flipped_files(model, tmp_path):
    save_face_model(model, tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    for length in (0, 1, 3, 30, 200, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert "truncated or damaged" in refused(cut) or length < 2
    for place in range(200, len(whole), len(whole) // 40):
        cut.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            loaded = load_face_model(cut)
        except UserError:
            continue
        jax.tree.map(np.testing.assert_array_equal, loaded, model)  # the byte was one of padding or of dates


def test_files_of_other_kinds(tmp_path):
    for content in (b"", b"hello, I am a text file", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\x80\x04N."):
        (tmp_path / "other.npz").write_bytes(content)
        assert "no file of named arrays" in refused(tmp_path / "other.npz")
    assert "is not a file" in refused(tmp_path / "nowhere.npz")
    assert "is not a file" in refused(tmp_path)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    assert "is no face model" in refused(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "docs.npz", "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert "no file of named arrays" in refused(tmp_path / "docs.npz")


class Hostile:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def test_objects_are_never_unpickled(tmp_path, parts):
    mark = tmp_path / "ran"
    objects = np.array([Hostile(str(mark))], object)
    np.savez(tmp_path / "model.npz", **{**parts, "mean": objects})
    assert "mean.npy holds objects" in refused(tmp_path / "model.npz")
    assert not mark.exists()


def declared(header: str, content: bytes = b"") -> bytes:
    """An array file with a header of our own choice."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    "array",
    [
        declared("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3)}", bytes(12)),
        declared("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}", bytes(12)),
        declared("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", bytes(12)),
        declared("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}", bytes(99)),
        declared("{'descr': '<V99999999999', 'fortran_order': False, 'shape': (1,)}", bytes(99)),
        declared("(" * 5000, bytes(99)),
        declared("__import__('os')", bytes(99)),
        b"\x93NUMPY\x09\x00" + bytes(99),
        b"",
        b"no array",
    ],
)
def test_headers_that_lie_are_refused(tmp_path, array):
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("mean.npy", array)
    assert "truncated or damaged" in refused(tmp_path / "model.npz")


def test_decompression_bombs_take_no_memory(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros(2**20, np.float32))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", buffer.getvalue())
    assert (tmp_path / "bomb.npz").stat().st_size < 2**14
    with pytest.raises(UserError, match="declares arrays of more than 1 MiB"):
        read_arrays(tmp_path / "bomb.npz", max_bytes=2**20)


def altered(parts, **changes) -> dict[str, np.ndarray]:
    header = json.loads(parts["header"].tobytes()) | changes
    return {**parts, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)}


def test_parts_that_do_not_fit_are_named(tmp_path, parts):
    path = tmp_path / "model.npz"

    def said(arrays) -> str:
        write_arrays(path, arrays)
        return refused(path)

    assert "mean is missing" in said({n: v for n, v in parts.items() if n != "mean"})
    assert "'weight' does not belong" in said({**parts, "weight": np.zeros(3)})
    assert "faces points to vertex 77" in said({**parts, "faces": np.full((F, 3), 77, np.int32)})
    assert "faces is int64" in said({**parts, "faces": parts["faces"].astype(np.int64)})
    assert "mean is float64" in said({**parts, "mean": parts["mean"].astype(np.float64)})
    assert "not finite" in said({**parts, "mean": np.full((V, 3), np.inf, np.float32)})
    assert "'reenax face model 9' instead of" in said(altered(parts, format="reenax face model 9"))
    assert "is a damaged face model" in said(altered(parts, expression_names=[1, 2, 3]))
    assert "is a damaged face model" in said(altered(parts, parents=["a"]))
    assert "'skeleton'" in said(altered(parts, parents=None))
    assert "skeleton.skinning is missing" in said({n: v for n, v in parts.items() if "skinning" not in n})
    assert "header cannot be read" in said({**parts, "header": np.frombuffer(b"[" * 9000, np.uint8)})
    assert "header cannot be read" in said({**parts, "header": np.frombuffer(b"\xff\xfe{", np.uint8)})
    assert "no face model" in said({**parts, "header": np.zeros(3)})
