"""Loss terms against numbers worked out by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.losses.adversarial import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from reenax.losses.equivariance import equivariance_jacobian_loss, equivariance_value_loss
from reenax.losses.perceptual import image_pyramid, perceptual_loss, pyramid_perceptual_loss
from reenax.losses.reconstruction import pyramid_gradient_loss, pyramid_l1_loss, region_l1_loss, ssim_loss
from reenax.nn.vgg import VGG, frozen_vgg, layer_names, vgg_features

SCALES = (1.0, 0.5)


def pictures(seed: int, size: int = 16) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), (2, size, size, 3))


def test_lsgan():
    real, fake = [jnp.full((2, 3, 3, 1), 0.75)], [jnp.full((2, 3, 3, 1), 0.5)]
    assert float(lsgan_generator_loss(fake)) == pytest.approx(0.25)
    assert float(lsgan_generator_loss(fake * 2)) == pytest.approx(0.5)
    assert float(lsgan_discriminator_loss(real, fake)) == pytest.approx(0.0625 + 0.25)


def test_hinge():
    real, fake = [jnp.asarray([2.0, 0.5]), jnp.asarray([-1.0])], [jnp.asarray([-2.0, 0.0]), jnp.asarray([1.0])]
    # scores beyond 1 on the right side cost nothing
    assert float(hinge_discriminator_loss(real, fake)) == pytest.approx((0.0 + 0.5) / 2 + 2.0 + (0.0 + 1.0) / 2 + 2.0)
    assert float(hinge_generator_loss(fake)) == pytest.approx(1.0 - 1.0)


def test_feature_matching_weighs_layers_and_sums_scales():
    real = [[jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 4))]]
    fake = [[jnp.zeros((1, 2, 2, 1)), jnp.full((1, 1, 1, 4), 3.0)]]
    assert float(feature_matching_loss(real, fake, (10.0, 1.0))) == pytest.approx(12.0)
    assert float(feature_matching_loss(real * 2, fake * 2, (10.0, 0.0))) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="shorter"):
        feature_matching_loss(real, fake, (1.0,))


def test_equivariance():
    points = jnp.array([[[0.5, -0.5]]])
    assert float(equivariance_value_loss(points, points + 0.25)) == pytest.approx(0.25)
    jacobian = jnp.array([[[[2.0, 0.0], [1.0, 4.0]]]])
    warp = jnp.array([[[[0.0, 1.0], [-1.0, 0.0]]]])
    transformed = jnp.linalg.solve(warp, jacobian)
    assert float(equivariance_jacobian_loss(jacobian, warp, transformed)) == pytest.approx(0.0, abs=1e-6)
    assert float(equivariance_jacobian_loss(jacobian, warp, 2 * transformed)) == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [pyramid_l1_loss, pyramid_gradient_loss, lambda x, y, s: ssim_loss(x, y)])
def test_reconstruction_losses_are_zero_for_equals_alone(loss):
    x, y = pictures(0), pictures(1)
    assert float(loss(x, x, SCALES)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(x, y, SCALES)) > 0.05


def test_l1_of_a_constant_offset():
    x = pictures(0)
    assert float(pyramid_l1_loss(x + 0.125, x, (1.0,))) == pytest.approx(0.125, rel=1e-5)
    assert float(pyramid_gradient_loss(x + 0.125, x, (1.0,))) == pytest.approx(0.0, abs=1e-6)


def test_ssim_of_scaled_contrast():
    """Two pictures of means m and deviations s, 2 s with perfect correlation: the closed form of the index."""
    x = jnp.tile(jnp.array([0.4, 0.6]), (1, 8, 4))[..., None]
    y = jnp.tile(jnp.array([0.3, 0.7]), (1, 8, 4))[..., None]
    half = np.array([4, 3]) / 7  # a window of 7 columns sees 4 of one and 3 of the other
    expected = []
    for a, b in (half, half[::-1]):
        mx, my = 0.4 * a + 0.6 * b, 0.3 * a + 0.7 * b
        var = a * b
        vx, vy, cov = var * 0.04, var * 0.16, var * 0.08
        c1, c2 = 1e-4, 9e-4
        expected.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert float(ssim_loss(x, y)) == pytest.approx(1 - np.mean(expected), abs=1e-5)


def test_pyramid_sizes():
    assert [x.shape[1] for x in image_pyramid(pictures(0), (1.0, 0.5, 0.25))] == [16, 8, 4]


def test_perceptual_loss_sends_nothing_to_the_target():
    weights = {"relu1_1": 2.0, "relu2_1": 1.0}
    taps = tuple(weights)
    features = vgg_features(VGG(taps, "vgg16").init(jax.random.key(0), pictures(0)), taps, "vgg16")
    x, y = pictures(1), pictures(2)
    seen, wanted = features(x), features(y)
    expected = sum(w * float(jnp.mean(jnp.abs(seen[n] - wanted[n]))) for n, w in weights.items())
    assert float(perceptual_loss(features, x, y, weights)) == pytest.approx(expected, rel=1e-5)
    to_x, to_y = jax.grad(lambda a, b: perceptual_loss(features, a, b, weights), argnums=(0, 1))(x, y)
    assert float(jnp.abs(to_x).max()) > 0
    assert float(jnp.abs(to_y).max()) == 0
    small = perceptual_loss(features, image_pyramid(x, (0.5,))[0], image_pyramid(y, (0.5,))[0], weights)
    total = pyramid_perceptual_loss(features, x, y, weights, SCALES)
    assert float(total) == pytest.approx(expected + float(small), rel=1e-5)


def test_bfloat16_features_give_a_float32_loss():
    taps = ("relu1_1",)
    variables = VGG(taps).init(jax.random.key(0), pictures(0))
    losses = [
        perceptual_loss(vgg_features(variables, taps, dtype=d), pictures(1), pictures(2), {"relu1_1": 1.0})
        for d in (None, jnp.bfloat16)
    ]
    assert losses[1].dtype == jnp.float32
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=2e-2)


def test_layers_are_those_of_torchvision():
    names = layer_names("vgg19")
    assert [names[i] for i in (0, 1, 4, 6, 11, 20, 29, 36)] == [
        "conv1_1", "relu1_1", "pool1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", "pool5",
    ]  # fmt: skip
    assert len(layer_names("vgg16")) == 31


def test_trunk_parameter_counts():
    for arch, count in (("vgg16", 14_714_688), ("vgg19", 20_024_384)):
        shapes = jax.eval_shape(frozen_vgg(arch).init, jax.random.key(0))
        assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_faces_are_seen_without_a_deviation():
    """The face trunk takes the mean face off pictures in 0..255; a picture of that colour is nothing to it."""
    variables: Any = VGG(("conv1_1",), "vggface").init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    mean = jnp.broadcast_to(jnp.asarray([129.186, 104.762, 93.594])[None, None, None] / 255, (1, 8, 8, 3))
    features = vgg_features(variables, ("conv1_1",), "vggface")
    np.testing.assert_allclose(features(mean)["conv1_1"], 0, atol=1e-3)
    kernel = variables["params"]["conv1_1"]["kernel"]
    brighter = features(mean + 1 / 255)["conv1_1"]
    np.testing.assert_allclose(brighter[0, 4, 4], kernel.sum(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)


def test_random_features_stay_alive():
    features = vgg_features(frozen_vgg().init(jax.random.key(0)))(pictures(0, 32))
    scales = [float(x.std()) for x in features.values()]
    assert all(0.2 < s < 5 for s in scales), scales


def test_vgg_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no trunk 'vgg11'"):
        layer_names("vgg11")
    with pytest.raises(ValueError, match="no layer 'relu9_1'"):
        VGG(("relu9_1",)).init(jax.random.key(0), pictures(0))
    with pytest.raises(ValueError, match="8x8 is too small"):
        jax.eval_shape(VGG().init, jax.random.key(0), pictures(0, 8))


def test_a_region_counts_what_lies_in_its_box():
    target = jnp.zeros((2, 5, 5, 3))
    prediction = target.at[:, 2, 2].set(0.9).at[0, 0, 0].set(7.0)  # the corner is outside
    points = jnp.array([[[-0.5, -0.5], [0.5, 0.5]], [[-0.5, -0.5], [0.5, 0.5]]])  # pixels 1, 2, 3 of each side
    assert float(region_l1_loss(prediction, target, points, margin=0.0)) == pytest.approx(0.9 / 9)
    assert float(region_l1_loss(prediction, target, points, margin=0.5)) == pytest.approx((2 * 0.9 + 7) / 50)
    nowhere = points + 9.0
    assert float(region_l1_loss(prediction, target, nowhere)) == 0.0
