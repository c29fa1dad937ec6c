"""Networks of faces under the names that files have, and colours in the order of Caffe."""

import jax
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.interop.vgg import convert
from reenax.nn.vgg_m import frozen_face_network


def state_of(kind: str) -> dict[str, np.ndarray]:
    """A file's tensors, every one filled with its rank among them."""
    params = jax.eval_shape(frozen_face_network(kind).init, jax.random.key(0))["params"]
    state = {}
    for i, name in enumerate(sorted(params), start=1):
        rows, columns, *channels = params[name]["kernel"].shape
        state[f"{name}.weight"] = np.full((channels[1], channels[0], rows, columns), i, np.float32)
        state[f"{name}.bias"] = np.full(channels[1], -i, np.float32)
    return {**state, "fc6.weight": np.zeros((2, 2), np.float32)}


@pytest.mark.parametrize("kind", ["vggface11", "vggmface"])
def test_every_convolution_finds_its_place(kind: str) -> None:
    params = convert(state_of(kind), kind)["params"]
    assert sorted(params) == sorted(n.removesuffix(".weight") for n in state_of(kind) if n.endswith("weight"))[:-1]
    for i, name in enumerate(sorted(params), start=1):
        assert float(params[name]["kernel"].max()) == i
        assert float(params[name]["bias"].min()) == -i


def test_eight_convolutions_may_be_counted_through() -> None:
    state = state_of("vggface11")
    names = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2")
    counted = {
        f"conv{names.index(n.split('.')[0]) + 1}.{n.split('.')[1]}": v for n, v in state.items() if n[:4] == "conv"
    }
    assert {"conv1.weight", "conv8.bias"} < set(counted)
    made, wanted = (convert(s, "vggface11") for s in (counted, state))
    jax.tree.map(np.testing.assert_array_equal, made, wanted)


def test_colours_in_the_order_of_caffe_are_turned_round() -> None:
    state = state_of("vggmface")
    state["conv1.weight"] = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1) * np.ones((96, 3, 7, 7), np.float32)
    rgb, bgr = (convert({**state, "channels": c}, "vggmface")["params"]["conv1"]["kernel"] for c in ("rgb", "bgr"))
    np.testing.assert_array_equal(rgb[0, 0, :, 0], [0, 1, 2])
    np.testing.assert_array_equal(bgr[0, 0, :, 0], [2, 1, 0])
    with pytest.raises(UserError, match='"channels" \'grb\'; it can say "rgb" or "bgr"'):
        convert({**state, "channels": "grb"}, "vggmface")


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"not VGG-M: it has no conv1\.weight"):
        convert({"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}, "vggmface")
    with pytest.raises(UserError, match="does not fit the model"):
        convert(state_of("vggface"), "vggface11")  # sixteen layers
