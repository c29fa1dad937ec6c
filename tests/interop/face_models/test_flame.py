"""FLAME: pickles of every age, read without running what is in them, and every way in which they can be wrong."""

import pickle
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from reenax.core.errors import UserError
from reenax.core.unpickle import numbers, read_pickle
from reenax.interop.face_models import convert_face_model, read_face_model
from tests.interop.face_models.made_up_face import EXPRESSION, assert_same_face, made_up_face, one_line
from tests.interop.face_models.made_up_flame import JOINTS, Runs, flame, python2_array

FACE = made_up_face()


@pytest.fixture
def chumpy(monkeypatch) -> types.ModuleType:
    """A module with classes of chumpy's names and the attributes that they keep."""
    module = types.ModuleType("chumpy.ch")
    for name in ("Ch", "Select"):
        cls = type(name, (), {"__module__": "chumpy.ch", "__init__": lambda self, **state: self.__dict__.update(state)})
        setattr(module, name, cls)
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return module


def same_as(model, content) -> None:
    """The model is the face, and its skeleton that of the content in centimetres."""
    identity = np.asarray(model.identity_basis)
    assert identity.shape == (300, FACE.count, 3)
    assert not identity[len(FACE.identity) :].any()
    assert_same_face(model.replace(identity_basis=model.identity_basis[: len(FACE.identity)]), FACE)
    skeleton = model.skeleton
    assert skeleton.parents == (-1, 0, 1, 1, 1)
    expected = {
        "joint_regressor": content["J_regressor"].toarray(),
        "skinning": content["weights"],
        "pose_basis": content["posedirs"].transpose(2, 0, 1) * 100,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(skeleton, name), value, atol=1e-5)


def with_chumpy(content: dict, chumpy: types.ModuleType) -> dict:
    """What the releases of 2017 to 2020 keep as arrays of chumpy."""
    rest = {"_dirty_vars": set(), "_itr": None}
    wrapped = {n: chumpy.Ch(x=content[n], **rest) for n in ("v_template", "weights")}
    wrapped["posedirs"] = chumpy.Ch(r=content["posedirs"])
    order = np.random.default_rng(0).permutation(content["shapedirs"].size)
    shuffled = np.empty(order.size)
    shuffled[order] = content["shapedirs"].ravel()
    shape = content["shapedirs"].shape
    wrapped["shapedirs"] = chumpy.Select(a=chumpy.Ch(x=shuffled), idxs=order, preferred_shape=shape)
    return content | wrapped


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path, landmarks, chumpy, protocol):
    content = flame()
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps(with_chumpy(content, chumpy), protocol))
    same_as(read_face_model("flame", path, landmarks), content)


@pytest.mark.parametrize("form", ["csr_matrix", "coo_matrix", "csc_array", "coo_array", "dense"])
def test_every_form_of_the_joint_regressor(tmp_path, landmarks, form):
    content = flame()
    regressor = content["J_regressor"]
    regressor = regressor.toarray() if form == "dense" else getattr(scipy.sparse, form)(regressor)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content | {"J_regressor": regressor}))
    same_as(read_face_model("flame", tmp_path / "model.pkl", landmarks), content)


def python2_pickle(content: dict) -> bytes:
    """A dictionary of arrays and sparse matrices as Python 2 writes it."""
    items = b""
    for name, value in content.items():
        items += b"U%c%s" % (len(name), name.encode())
        if isinstance(value, np.ndarray):
            items += python2_array(value)
        elif isinstance(value, str):
            items += b"U%c%s" % (len(value), value.encode())
        else:
            state = b"".join(
                b"U%c%s" % (len(n), n.encode()) + python2_array(getattr(value, n))
                for n in ("data", "indices", "indptr")
            )
            state += b"U\6_shape(" + b"".join(b"J" + int(n).to_bytes(4, "little") for n in value.shape) + b"t"
            items += (
                b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csc\ncsc_matrix\nc__builtin__\nobject\nNtR}("
                + state
                + b"ub"
            )
    return b"\x80\2}(" + items + b"u."


def test_pickles_of_python_2(tmp_path, landmarks):
    content = flame()
    (tmp_path / "model.pkl").write_bytes(python2_pickle(content))
    same_as(read_face_model("flame", tmp_path / "model.pkl", landmarks), content)


def test_npz(tmp_path, landmarks):
    content = flame()
    dense = content | {"J_regressor": content["J_regressor"].toarray()}
    np.savez(tmp_path / "flame.npz", **dense, allow_pickle=True, unread=np.array([None], object))
    same_as(read_face_model("flame", tmp_path / "flame.npz", landmarks), content)
    np.savez_compressed(tmp_path / "flame.npz", **content)  # the sparse matrix as an object
    with pytest.raises(UserError, match=r"J_regressor\.npy holds objects and is not read"):
        read_face_model("flame", tmp_path / "flame.npz", landmarks)


def test_fewer_directions_are_all_identity(tmp_path, landmarks):
    content = flame()
    content["shapedirs"] = content["shapedirs"][..., :10]
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    model = read_face_model("flame", tmp_path / "model.pkl", landmarks)
    assert (len(model.identity_basis), len(model.expression_basis)) == (10, 0)


def test_opening_the_jaw_moves_what_hangs_on_it(tmp_path, landmarks):
    content = flame() | {"weights": np.zeros((FACE.count, JOINTS)), "posedirs": np.zeros((FACE.count, 3, 36))}
    low = FACE.mean[:, 1] < -3
    content["weights"][np.arange(FACE.count), np.where(low, 2, 1)] = 1
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    model = read_face_model("flame", tmp_path / "model.pkl", landmarks)
    rotations = jnp.zeros((JOINTS, 3)).at[2].set(jnp.array([0.3, 0, 0]))
    moved = np.asarray(model.posed(jnp.zeros(300), jnp.zeros(EXPRESSION), rotations)) - np.asarray(model.mean)
    assert np.abs(moved[~low]).max() < 1e-4
    assert np.abs(moved[low]).max() > 0.5


HOSTILE = [
    b"cos\nsystem\n(S'touch MARK'\ntR.",
    b"cposix\nsystem\n(S'touch MARK'\ntR.",
    b"(S'touch MARK'\nios\nsystem\n.",
    b"(cos\nsystem\nS'touch MARK'\no.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch MARK\x85R.",
    b"\x80\x02cnumpy\nndarray\n(K\x01tR.",
    b"\x80\x02cnumpy\nndarray\n(K\x01t\x81.",
    b"\x80\x02cnumpy\nload\n(S'MARK'\ntR.",
    b"\x80\x02cnumpy.core.multiarray\nfromfile\n(S'MARK'\ntR.",
    b"\x80\x02cnumpy.f2py.crackfortran\nmyeval\n(S'1'\ntR.",
    b"\x80\x02cscipy.sparse\nload_npz\n(S'MARK'\ntR.",
    b"\x80\x02c__builtin__\ngetattr\n(tR.",
    b"\x80\x02ctorch.storage\n_load_from_bytes\n(S'a'\ntR.",
    b"\x80\x02c_codecs\nencode\n(S'a'\nS'zip'\ntR.",
    b"\x80\x02c_codecs\ndecode\n(S'a'\nS'zip'\ntR.",
    b"\x80\x02cnumpy\ndtype\n}(U\x08set_statecos\nsystem\nub.",
    b"\x80\x02cchumpy.ch\nCh\nN}(U\x0b__builtins__K\x01u\x86b.",
    b"\x80\x02]}(U\x06appendK\x01ub.",
    b"\x80\x02U\x04os.iQ.",
    b"Pos.system\n.",
    b"\x80\x02\x82\x01.",
    b"\x80\x04}(]\x90.",
    b"\x80\x02}(]K\x01u.",
]


@pytest.mark.parametrize("content", HOSTILE)
def test_nothing_in_a_pickle_is_run(tmp_path, content):
    mark = tmp_path / "ran"
    (tmp_path / "model.pkl").write_bytes(
        content.replace(b"MARK", str(mark).encode()) if b"\x8c" not in content else content
    )
    with pytest.raises(UserError, match="is not read, since such a file can run code|truncated or damaged") as error:
        read_pickle(tmp_path / "model.pkl")
    one_line(error)
    assert not mark.exists()
    assert not Path("MARK").exists()


def test_a_hostile_model_is_refused_by_name(tmp_path, landmarks):
    mark = tmp_path / "ran"
    for function, name in ((exec, "exec"), (eval, "eval"), (__import__, "__import__")):
        for protocol in range(6):
            content = flame() | {"J": {"deep": [Runs(mark, function)]}}
            (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol))
            with pytest.raises(UserError) as error:
                convert_face_model("flame", tmp_path / "model.pkl", tmp_path / "out.npz", landmarks)
            assert f".{name}' and is not read, since such a file can run code" in one_line(error)
    assert not mark.exists()
    assert not (tmp_path / "out.npz").exists()


def test_arrays_that_lie_about_themselves(tmp_path):
    path = tmp_path / "array.pkl"
    honest = b"\x80\x02" + python2_array(np.arange(6.0).reshape(2, 3)) + b"."
    path.write_bytes(honest)
    np.testing.assert_array_equal(numbers(read_pickle(path)), np.arange(6.0).reshape(2, 3))
    shape = b"J\2\0\0\0J\3\0\0\0"
    for other in (
        b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f",
        b"J\xff\xff\xff\xffJ\xfa\xff\xff\xff",
        b"J\1\0\0\0J\3\0\0\0",
        b"NJ\6\0\0\0",
        b"G\x40\0\0\0\0\0\0\0J\3\0\0\0",
    ):
        path.write_bytes(honest.replace(shape, other))
        with pytest.raises(UserError, match="truncated or damaged"):
            read_pickle(path)
    for kind in (b"O8", b"V8", b"S8", b"c8", b"f9", b"M8", b",f"):
        path.write_bytes(honest.replace(b"U\2f8", b"U\2" + kind))
        with pytest.raises(ValueError, match="no array of numbers"):
            numbers(read_pickle(path))
    big = honest.replace(b"U\1<", b"U\1>")
    path.write_bytes(big)
    np.testing.assert_array_equal(numbers(read_pickle(path)), np.arange(6.0).reshape(2, 3).byteswap())


@pytest.mark.parametrize(
    "change",
    [
        {"indptr": np.array([0, 1, 99], np.int32)},
        {"indptr": np.array([0, 5, 2], np.int32)},
        {"indptr": np.array([0, 2**40, 2], np.int64)},
        {"indices": np.array([0, 7], np.int32)},
        {"indices": np.array([0, -1], np.int32)},
        {"indices": np.array([0.0, 1.0])},
        {"data": np.array(["a", "b"])},
        {"data": np.zeros(5)},
        {"_shape": (2**20, 2**20)},
        {"_shape": (-2, -2)},
        {"_shape": "ab"},
        {"_shape": None},
    ],
)
def test_sparse_matrices_that_lie(tmp_path, change):
    matrix = scipy.sparse.csc_matrix(np.diag([1.0, 2.0]))
    (tmp_path / "matrix.pkl").write_bytes(pickle.dumps(matrix, 2))
    np.testing.assert_array_equal(numbers(read_pickle(tmp_path / "matrix.pkl")), np.diag([1.0, 2.0]))
    for name, value in change.items():
        object.__setattr__(matrix, name, value)
    (tmp_path / "matrix.pkl").write_bytes(pickle.dumps(matrix, 2))
    record = read_pickle(tmp_path / "matrix.pkl")
    with pytest.raises((ValueError, IndexError, TypeError)):
        numbers(record)


def test_truncated_and_foreign_pickles(tmp_path, landmarks, chumpy):
    whole = pickle.dumps(with_chumpy(flame(), chumpy), 2)
    cut = tmp_path / "cut.pkl"
    for length in (0, 1, 2, 50, 500, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated or damaged") as error:
            read_face_model("flame", cut, landmarks)
        one_line(error)
    for content in (b"hello, I am a text file", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\3\4" + bytes(100)):
        cut.write_bytes(content)
        with pytest.raises(UserError, match="none at all|not read"):
            read_face_model("flame", cut, landmarks)
    cut.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds a list and no FLAME model"):
        read_face_model("flame", cut, landmarks)
    with pytest.raises(UserError, match="is not a file"):
        read_face_model("flame", tmp_path / "nowhere.pkl", landmarks)
    with cut.open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(UserError, match="larger than 256 MiB"):
        read_face_model("flame", cut, landmarks)


def test_damaged_bytes_never_crash(tmp_path, landmarks):
    small = {n: v for n, v in flame().items() if n in ("J_regressor", "kintree_table", "bs_style")}
    whole = pickle.dumps(small, 2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 400), 3):
            content[place] = rng.integers(256)
        (tmp_path / "model.pkl").write_bytes(content)
        with pytest.raises(UserError) as error:
            read_face_model("flame", tmp_path / "model.pkl", landmarks)
        one_line(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v_template": None}, "v_template is no array of numbers"),
        ({"v_template": "text"}, "v_template is no array of numbers"),
        ({"v_template": np.array([None])}, "v_template is no array of numbers"),
        ({"v_template": FACE.mean}, "the eyes are 6.* cm apart"),
        ({"v_template": np.full((FACE.count, 3), np.nan)}, "mean holds numbers that are not finite"),
        ({"v_template": FACE.mean[:-1]}, r"shapedirs is \[525 3 303\] instead of \[524 3 \?\]"),
        ({"posedirs": np.zeros((FACE.count, 3, 9))}, r"posedirs is \[525 3 9\] instead of \[525 3 36\]"),
        ({"weights": np.zeros((FACE.count, JOINTS))}, "skinning has rows that do not sum to 1"),
        ({"J_regressor": np.zeros((4, FACE.count))}, r"J_regressor is \[4 525\] instead of \[5 525\]"),
        ({"kintree_table": np.array([[0, 5, 1, 1, 1], [0, 1, 2, 3, 4]])}, "kintree_table runs from 1 to 5"),
        ({"kintree_table": np.array([[-1, 0, 3, 2, 1], [0, 1, 2, 3, 4]])}, "no tree"),
        ({"f": FACE.faces + 1}, "f runs from 1 to 525"),
        ({"f": FACE.faces[:, :2]}, r"f is \[960 2\]"),
    ],
)
def test_inconsistent_models(tmp_path, landmarks, change, words):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(flame() | change))
    with pytest.raises(UserError, match=words) as error:
        convert_face_model("flame", tmp_path / "model.pkl", tmp_path / "out.npz", landmarks)
    one_line(error)
    assert not (tmp_path / "out.npz").exists()
