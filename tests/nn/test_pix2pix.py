"""The networks of pix2pix: transposed convolution, U-Net, patch discriminator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from reenax.geometry.sampling import resize_bilinear
from reenax.interop.torch import Entry, entries_of
from reenax.nn.conv import ConvTranspose, conv
from reenax.nn.patchgan import PatchGAN
from reenax.nn.unet import UNet, UNetParams


@pytest.mark.parametrize(("kernel", "padding", "extra", "grown"), [(4, 1, 0, 10), (3, 1, 1, 10)])
def test_a_transposed_convolution_is_the_transpose_of_a_convolution(kernel, padding, extra, grown):
    layer = ConvTranspose(2, kernel, 2, padding, extra, use_bias=False)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
    variables = layer.init(jax.random.key(1), x)
    made: Any = layer.apply(variables, x)
    assert made.shape == (1, grown, grown, 2)
    # the convolution from the grown picture down, whose kernel is the unflipped one with swapped channels
    params: Any = variables["params"]
    down = params["transposed_kernel"][::-1, ::-1].swapaxes(2, 3)
    _, back = jax.vjp(lambda y: conv(y, down, None, padding=padding, stride=2), jnp.zeros(made.shape))
    np.testing.assert_allclose(made, back(x)[0], atol=1e-5)


def test_a_transposed_kernel_goes_to_its_published_layout_and_back():
    shapes = {"g": {"params": {"up": {"transposed_kernel": jax.ShapeDtypeStruct((4, 4, 3, 2), jnp.float32)}}}}
    (entry,) = entries_of(shapes, ".".join)
    theirs = np.arange(96.0).reshape(3, 2, 4, 4)
    assert entry == Entry("g.params.up.transposed_kernel", ("g", "params", "up", "transposed_kernel"), "transposed")
    assert entry.to_ours(theirs).shape == (4, 4, 3, 2)
    assert entry.to_ours(theirs)[3, 3, 1, 0] == theirs[1, 0, 0, 0]
    np.testing.assert_array_equal(entry.to_theirs(entry.to_ours(theirs)), theirs)


def test_aligned_corners_stay_where_they_are():
    picture = jnp.array([[0.0, 3.0], [6.0, 9.0]])[None, ..., None]
    grown = resize_bilinear(picture, (4, 4), align_corners=True)[0, ..., 0]
    np.testing.assert_allclose(grown[0], [0, 1, 2, 3], atol=1e-6)
    np.testing.assert_allclose(grown[:, 0], [0, 2, 4, 6], atol=1e-6)


@pytest.mark.parametrize(
    ("params", "count"),
    [
        (UNetParams(), 39_157_760),  # X2Face, the embedding network
        (UNetParams(out=2, inner=128, skips=False), 25_614_080),  # its driving network
    ],
)
def test_published_sizes(params, count):
    picture = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: UNet(params).init(jax.random.key(0), x, train=False), picture)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == count


def test_a_unet_gives_a_picture_and_a_code_and_can_go_on_from_another_code():
    params = UNetParams(4, 3, out=2, inner=6, skip_first=True, up="transposed", up_bias_last=True, dropout=(2,))
    net, x = UNet(params), jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    variables = net.init(jax.random.key(1), x, train=False)
    forward: Any = net.apply(variables, x, train=False)
    made, inner = forward
    assert made.shape == (2, 16, 16, 2)
    assert inner.shape == (2, 2, 2, 6)
    code, passed = net.apply(variables, x, train=False, method="encode")
    again = net.apply(variables, code, passed, train=False, method="decode")
    np.testing.assert_array_equal(made, again)
    other = net.apply(variables, code + 1, passed, train=False, method="decode")
    assert float(jnp.abs(other - made).max()) > 0
    dropped, state = net.apply(
        variables, x, train=True, dropout=True, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"]
    )
    assert float(jnp.abs(dropped[0] - made).max()) > 0
    assert set(state["batch_stats"]) == {"down_norm_2", "up_norm_2", "up_norm_3"}


@pytest.mark.parametrize(
    ("norm", "bias", "channels", "count"), [("batch", False, 15, 2_777_921), ("instance", True, 6, 2_767_809)]
)
def test_patches_are_judged_one_by_one(norm, bias, channels, count):
    net = PatchGAN(norm=norm, bias_with_norm=bias)  # ReenactGAN's and FReeNet's
    shapes = jax.eval_shape(
        lambda x: net.init(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct((1, 256, 256, channels), "float32")
    )
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == count
    small = PatchGAN(4, 2, norm, bias)
    x = jnp.zeros((1, 32, 32, 3))
    variables = small.init(jax.random.key(0), x, train=False)
    scores: Any = small.apply(variables, x, train=False)
    assert scores.shape == (1, 6, 6)


def test_a_batch_can_be_judged_as_if_every_picture_were_alone():
    """The published trainings had one picture on each device; what is learned has the same names and shapes."""
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3)) * jnp.array([1.0, 5.0])[:, None, None, None]
    trees = {}
    for norm in ("batch", "sample"):
        net: Any = PatchGAN(4, 2, norm, scale_init=nn.initializers.constant(0.5))
        variables = net.init(jax.random.key(1), x, train=False)
        trees[norm] = jax.tree.map(jnp.shape, variables)
        assert float(variables["params"]["norm_1"]["scale"][0]) == 0.5
        together, _ = net.apply(variables, x, train=True, mutable=["batch_stats"])
        alone = [net.apply(variables, x[i : i + 1], train=True, mutable=["batch_stats"])[0] for i in range(2)]
        assert np.allclose(together, jnp.concatenate(alone), atol=1e-5) == (norm == "sample")
    assert trees["batch"] == trees["sample"]
