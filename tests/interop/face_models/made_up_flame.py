"""A FLAME model of the made-up face, and pickles of the kinds that it comes in."""

from pathlib import Path

import numpy as np
import scipy.sparse

from tests.interop.face_models.made_up_face import EXPRESSION, made_up_face

FACE = made_up_face()
JOINTS = 5


def flame() -> dict:
    """The arrays of a model in metres, 300 identity and 3 expression directions."""
    rng = np.random.default_rng(3)
    directions = np.zeros((300 + EXPRESSION, FACE.count, 3))
    directions[: len(FACE.identity)] = FACE.identity
    directions[300:] = FACE.expression
    weights = rng.random((FACE.count, JOINTS))
    regressor = np.where(rng.random((JOINTS, FACE.count)) < 0.05, 1.0, 0.0) + np.eye(JOINTS, FACE.count)
    return {
        "v_template": FACE.mean / 100,
        "shapedirs": np.ascontiguousarray(directions.transpose(1, 2, 0)) / 100,
        "posedirs": rng.normal(size=(FACE.count, 3, 9 * (JOINTS - 1))) / 1000,
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": FACE.faces.astype(np.uint32),
        "bs_style": "lbs",
    }


def python2_array(array: np.ndarray) -> bytes:
    """An array as Python 2 pickles it: bytes as text, global names of its time."""
    shape = b"(" + b"".join(b"J" + int(n).to_bytes(4, "little") for n in array.shape) + b"t"
    kind = array.dtype.str[1:].encode()
    dtype = b"cnumpy\ndtype\n(U%c%sK\0K\1tR(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb" % (len(kind), kind)
    raw = array.tobytes()
    content = b"T" + len(raw).to_bytes(4, "little") + raw
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1"
        + shape
        + dtype
        + b"I00\n"
        + content
        + b"tb"
    )


class Runs:
    """Unpickling it would write a file."""

    def __init__(self, mark: Path, function) -> None:
        self.mark, self.function = mark, function

    def __reduce__(self):
        return (self.function, (f"open({str(self.mark)!r}, 'w')",))
