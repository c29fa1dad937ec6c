"""Convolutions and norms against PyTorch's definitions, and under a sharded batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from reenax.nn.conv import Conv, SpectralConv, conv
from reenax.nn.norm import BatchNorm, InstanceNorm


def run(module: nn.Module, *args: Any, **options: Any) -> Any:
    return module.apply(*args, **options)


@pytest.fixture
def x() -> jax.Array:
    return 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 6, 3))


def test_kernels_and_biases_start_as_in_pytorch() -> None:
    params = Conv(256, 3).init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))["params"]
    bound = 1 / np.sqrt(3 * 3 * 16)
    for name in ("kernel", "bias"):
        values = np.asarray(params[name])
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.97 * bound
        np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.1)


def test_convolution_slides_without_flipping() -> None:
    picture = jnp.arange(12.0).reshape(1, 3, 4, 1)
    kernel = jnp.asarray([[1.0, 0.0], [0.0, -2.0]]).reshape(2, 2, 1, 1)
    out = run(Conv(1, kernel_size=2, padding=0), {"params": {"kernel": kernel, "bias": jnp.ones(1)}}, picture)
    np.testing.assert_allclose(out, picture[:, :2, :3] - 2 * picture[:, 1:, 1:] + 1)


def by_xla(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), [(padding, padding)] * 3, dimension_numbers=numbers)


@pytest.mark.parametrize(("side", "padding"), [(3, 1), (2, 0)])
def test_convolution_of_volumes_is_that_of_xla_with_its_gradients(side: int, padding: int) -> None:
    """However a device computes it."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = (
            jnp.asarray(random.normal(size=(2, 5, 6, 7, 3))),
            jnp.asarray(random.normal(size=(side,) * 3 + (3, 4))),
        )
        towards = jnp.asarray(random.normal(size=[2, *(n + 2 * padding - side + 1 for n in (5, 6, 7)), 4]))

        def moved(function: Any) -> Any:
            return jax.jit(jax.value_and_grad(lambda *a: (function(*a) * towards).sum(), argnums=(0, 1)))(x, kernel)

        module = Conv(4, side, padding=padding, use_bias=False)
        ours = moved(lambda x, k: run(module, {"params": {"kernel": k}}, x))
        theirs = moved(lambda x, k: by_xla(x, k, padding))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, theirs)


@pytest.mark.parametrize(("platform", "axes"), [("cpu", 2), ("cuda", 3), ("tpu", 3)])
def test_volumes_are_convolved_as_suits_the_device(platform: str, axes: int) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 4, 2), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 2, 2), jnp.float32)
    lowered = jax.jit(lambda x, k: conv(x, k, None, padding=1)).trace(x, kernel).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert text.count("stablehlo.convolution") == (3 if axes == 2 else 1)
    assert (
        f"window_strides = array<i64: {', '.join('1' * axes)}>" in text or f"stride = [{', '.join('1' * axes)}]" in text
    )


def test_batch_norm_of_volumes_is_that_of_all_their_voxels(x: jax.Array) -> None:
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=True)
    y, moved = run(norm, variables, x, train=True, mutable=["batch_stats"])
    deep, deep_moved = run(norm, variables, x.reshape(2, 4, 4, 6, 3), train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(deep.reshape(y.shape), y, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), deep_moved, moved)


def test_batch_norm_stores_the_unbiased_variance(x: jax.Array) -> None:
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))
    y, moved = run(norm, variables, x, train=True, mutable=["batch_stats"])
    flat = np.asarray(x, np.float64).reshape(-1, 3)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y.reshape(-1, 3), expected, atol=1e-5)
    np.testing.assert_allclose(moved["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moved["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    still = run(norm, {**variables, **moved}, x, train=False)
    stats = jax.tree.map(np.asarray, moved["batch_stats"])
    np.testing.assert_allclose(still.reshape(-1, 3), (flat - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), atol=1e-5)


def test_batch_norm_keeps_the_variance_of_a_large_mean() -> None:
    x = 1000 + jax.random.normal(jax.random.key(0), (4, 8, 8, 2))
    norm = BatchNorm()
    y, _ = run(norm, norm.init(jax.random.key(0), x, train=False), x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.std(y, axis=(0, 1, 2)), 1, rtol=1e-3)


def test_batch_norm_of_a_sharded_batch_is_that_of_the_whole(x: jax.Array) -> None:
    mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(AxisType.Auto,))
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=True)

    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, moved = run(norm, variables, x, train=True, mutable=["batch_stats"])
        return (y * jnp.sin(x)).sum(), moved["batch_stats"]["var"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    alone = step(x)
    shared = step(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), alone, shared)


def test_training_without_mutable_statistics_is_an_error(x: jax.Array) -> None:
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=False)
    with pytest.raises(Exception, match="batch_stats"):
        run(norm, variables, x, train=True)


def test_instance_norm_sees_one_sample(x: jax.Array) -> None:
    norm = InstanceNorm()
    variables = {"params": {"scale": jnp.asarray([1.0, 2.0, 3.0]), "bias": jnp.asarray([0.0, 0.5, 1.0])}}
    y = run(norm, variables, x)
    values = np.asarray(x)
    deviation = np.sqrt(values.var(axis=(1, 2), keepdims=True) + 1e-5)
    centred = values - values.mean(axis=(1, 2), keepdims=True)
    expected = centred / deviation * np.asarray([1.0, 2.0, 3.0]) + np.asarray([0.0, 0.5, 1.0])
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_bfloat16_keeps_float32_params_and_statistics(x: jax.Array) -> None:
    for layer in (BatchNorm(dtype=jnp.bfloat16), SpectralConv(4, dtype=jnp.bfloat16)):
        variables = layer.init(jax.random.key(0), x, train=True)
        state = [c for c in variables if c != "params"]
        y, moved = run(layer, variables, x.astype(jnp.bfloat16), train=True, mutable=state)
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, moved))} == {jnp.dtype("float32")}


def test_instance_norm_without_params(x: jax.Array) -> None:
    variables = {"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    np.testing.assert_allclose(run(InstanceNorm(affine=False), {}, x), run(InstanceNorm(), variables, x), atol=1e-6)


class TestSpectralConv:
    @pytest.fixture
    def conv(self) -> SpectralConv:
        return SpectralConv(5, 3)

    def test_kernel_approaches_a_largest_singular_value_of_one(self, conv: SpectralConv, x: jax.Array) -> None:
        variables = conv.init(jax.random.key(0), x, train=True)
        for _ in range(60):
            _, moved = run(conv, variables, x, train=True, mutable=["spectral"])
            variables = {**variables, **moved}
        kernel = variables["params"]["kernel"]
        largest = np.linalg.svd(np.asarray(kernel).reshape(-1, 5), compute_uv=False)[0]
        plain = run(Conv(5, 3), {"params": {**variables["params"], "kernel": kernel / largest}}, x)
        np.testing.assert_allclose(run(conv, variables, x, train=False), plain, atol=1e-4)

    def test_one_iteration_per_training_forward_in_pytorch_layout(self, conv: SpectralConv, x: jax.Array) -> None:
        variables = conv.init(jax.random.key(0), x, train=True)
        matrix = np.asarray(variables["params"]["kernel"]).transpose(3, 2, 0, 1).reshape(5, -1)
        v = matrix.T @ variables["spectral"]["u"]
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
        y, moved = run(conv, variables, x, train=True, mutable=["spectral"])
        np.testing.assert_allclose(moved["spectral"]["u"], u, atol=1e-5)
        np.testing.assert_allclose(moved["spectral"]["v"], v, atol=1e-5)
        np.testing.assert_allclose(y, run(conv, {**variables, **moved}, x, train=False), atol=1e-5)

    def test_the_vectors_are_constants_to_the_gradient(self, conv: SpectralConv, x: jax.Array) -> None:
        variables = conv.init(jax.random.key(0), x, train=True)
        _, moved = run(conv, variables, x, train=True, mutable=["spectral"])

        def loss(params: dict[str, jax.Array], state: dict[str, jax.Array], train: bool) -> jax.Array:
            y, _ = run(conv, {"params": params, "spectral": state}, x, train=train, mutable=["spectral"])
            return (y**2).sum()

        through = jax.grad(loss)(variables["params"], variables["spectral"], True)
        fixed = jax.grad(loss)(variables["params"], moved["spectral"], False)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), through, fixed)

    def test_switched_off_it_is_a_plain_convolution(self, x: jax.Array) -> None:
        conv = SpectralConv(5, 3, spectral=False)
        variables = conv.init(jax.random.key(0), x, train=True)
        assert set(variables) == {"params"}
        np.testing.assert_allclose(run(conv, variables, x, train=True), run(Conv(5, 3), variables, x), atol=1e-6)
