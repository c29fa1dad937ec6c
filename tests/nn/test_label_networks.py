"""The networks that StarGAN and GANimation share, and the instance norm that keeps running statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.nn.conv import conv
from reenax.nn.label_networks import CriticParams, LabelCritic, LabelledConv, LabelTrunk
from reenax.nn.norm import InstanceNorm, TrackedInstanceNorm
from reenax.train.hlo import Program
from reenax.train.sharding import batch_sharding, make_mesh, replicated
from tests.methods.contracts import drawn


@pytest.fixture(scope="module")
def picture() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (3, 8, 12, 3))


@pytest.fixture(scope="module")
def label() -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (3, 5))


def test_a_label_is_as_good_as_constant_channels(picture: jax.Array, label: jax.Array) -> None:
    kernel = jax.random.normal(jax.random.key(2), (7, 7, 8, 4))
    made: Any = LabelledConv(4).apply({"params": {"kernel": kernel}}, picture, label)
    planes = jnp.broadcast_to(label[:, None, None], (3, 8, 12, 5))
    expected = conv(jnp.concatenate([picture, planes], axis=-1), kernel, None, padding=3)
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_devices_exchange_nothing_but_the_gradient_of_a_labelled_kernel() -> None:
    mesh = make_mesh(4, 1, jax.devices()[:4])
    module, cut = LabelledConv(4), batch_sharding(mesh)

    def shape(*axes: int, sharding: Any = cut) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, jnp.float32, sharding=sharding)

    def loss(kernel: jax.Array, picture: jax.Array, label: jax.Array) -> jax.Array:
        return jnp.mean(module.apply({"params": {"kernel": kernel}}, picture, label) ** 2)  # pyright: ignore[reportOperatorIssue]

    kernel = shape(7, 7, 3 + 17, 4, sharding=replicated(mesh))
    whole = jax.jit(jax.grad(loss), out_shardings=replicated(mesh))
    text = whole.lower(kernel, shape(8, 32, 32, 3), shape(8, 17)).compile().as_text()
    assert text is not None
    found = Program(text).collectives
    assert {c.kind for c in found} == {"all-reduce"}
    assert sum(c.payload for c in found) == 4 * kernel.size


def test_running_statistics_are_means_over_instances(picture: jax.Array) -> None:
    norm: Any = TrackedInstanceNorm()
    variables = norm.init(jax.random.key(0), picture, train=True)
    assert (variables["batch_stats"]["var"] == 1).all(), "initialising moves nothing"
    made, moved = norm.apply(variables, picture, train=True, mutable=["batch_stats"])
    x = np.asarray(picture, np.float64)
    means, variances = x.mean((1, 2)).mean(0), x.var((1, 2), ddof=1).mean(0)
    np.testing.assert_allclose(moved["batch_stats"]["mean"], 0.1 * means, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(moved["batch_stats"]["var"], 0.9 + 0.1 * variances, rtol=1e-5)
    plain: Any = InstanceNorm().apply({"params": variables["params"]}, picture)
    np.testing.assert_allclose(made, plain, atol=1e-6)
    np.testing.assert_allclose(norm.apply(variables, picture, train=False), plain, atol=1e-6)
    stored = {**variables, **moved}
    by_running = norm.clone(use_running=True).apply(stored, picture, train=False)
    mean, var = (np.asarray(moved["batch_stats"][n], np.float64) for n in ("mean", "var"))
    np.testing.assert_allclose(by_running, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)


def test_the_critic_judges_each_picture_by_itself(picture: jax.Array) -> None:
    square = jnp.tile(picture, (1, 2, 2, 1))[:, :16, :16]
    critic: Any = LabelCritic(labels=5, image_size=16, features=4, layers=2)
    variables = drawn(jax.eval_shape(critic.init, jax.random.key(0), square))
    assert variables["params"]["label"]["kernel"].shape == (4, 4, 8, 5)
    look = jax.jit(critic.apply)
    read = look(variables, square)
    assert read.scores.shape == (3, 4, 4)
    assert read.label.shape == (3, 5)
    changed = look(variables, square.at[0].set(0.0))
    np.testing.assert_array_equal(changed.label[1:], read.label[1:])
    assert not np.array_equal(changed.label[0], read.label[0])
    with pytest.raises(UserError, match=r"config\.model\.critic\.image_size=16: .* 16 x 16, got 8 x 12; set it to"):
        critic.apply(variables, picture)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            {"image_size": 32},
            r"critic\.image_size=32: it must be a multiple of 64, for config\.model\.critic\.layers=6",
        ),
        ({"image_size": 50, "layers": 1}, "image_size=50: it must be a multiple of 4"),
        ({"image_size": 0, "layers": 2}, "image_size=0: it must be a multiple of 4"),
        ({"layers": 0}, r"config\.model\.critic\.layers=0: it must be at least 1"),
    ],
)
def test_sizes_that_leave_the_critic_nothing_are_refused(size: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CriticParams(**size)
    assert CriticParams(image_size=64).layers == 6


def test_the_trunk_wants_sides_that_can_be_halved_twice(picture: jax.Array, label: jax.Array) -> None:
    trunk = LabelTrunk(features=4, blocks=1)
    shapes: Any = jax.eval_shape(lambda key: trunk.init(key, picture, label, train=False), jax.random.key(0))
    assert shapes["params"]["residual_0"]["conv1"]["kernel"].shape == (3, 3, 16, 16)
    with pytest.raises(ValueError, match="multiples of 4, got 7 x 12"):
        trunk.init(jax.random.key(0), picture[:, :7], label, train=False)
