"""Animation by the fast path against the plain forward pass, and what the modes mean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.pictures import from_unit, to_unit
from reenax.core.types import Source, Variables, VideoDrive
from reenax.geometry.hull import hull_measure
from reenax.methods.fomm import FirstOrderMotion
from reenax.methods.fomm.networks import DetectorParams, GeneratorParams, Keypoints, MotionParams
from reenax.methods.fomm.reenact import relative_keypoints

SIZE = 32


def small(**options: Any) -> FirstOrderMotion:
    motion = MotionParams(block_expansion=4, num_blocks=2, max_features=16, scale_factor=0.5)
    return FirstOrderMotion(
        num_kp=4,
        kp_detector=DetectorParams(block_expansion=4, num_blocks=2, max_features=16, scale_factor=0.5),
        generator=GeneratorParams(block_expansion=8, max_features=32, num_bottleneck_blocks=2, dense_motion=motion),
        **options,
    )


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    """A source picture, an anchor and three driving frames, smooth enough for keypoints to spread."""
    coarse = jax.random.uniform(jax.random.key(1), (5, 6, 6, 3), minval=-1, maxval=1)
    return jax.image.resize(coarse, (5, SIZE, SIZE, 3), "cubic").clip(-1, 1)


def variables_of(method: FirstOrderMotion, frames: jax.Array) -> Variables:
    """Numbers that matter everywhere: no statistic, scale, bias or head is left at its neutral start.

    Drawn on the host: compiling the method's own initialisation would take longer than all the tests here.
    """
    shapes = jax.eval_shape(lambda key: method.init(key, {"source": frames[:1]}), jax.random.key(0))
    random = np.random.default_rng(0)

    def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=x.shape)
        if path[-1].key in ("scale", "var"):
            noise = 1 + 0.5 * np.abs(noise)
        elif x.ndim == 1:
            noise = 0.2 * noise + ("jacobian" in jax.tree_util.keystr(path)) * np.resize([1, 0, 0, 1], x.shape)
        else:
            noise = 0.8 * noise / np.sqrt(np.prod(x.shape[:-1]))
        return jnp.asarray(noise, frames.dtype)

    return jax.tree_util.tree_map_with_path(one, {n: shapes[n] for n in ("generator", "kp_detector")})


def plain(
    method: FirstOrderMotion, variables: Variables, frames: jax.Array, *, relative: bool, scale: float = 1.0
) -> jax.Array:
    """Frame by frame through the networks as they are trained, everything computed anew."""

    def detect(picture: jax.Array) -> Keypoints:
        found: Any = method.game.kp_detector.apply(variables["kp_detector"], to_unit(picture[None]), train=False)
        return found

    @jax.jit
    def one(picture: jax.Array) -> jax.Array:
        source, anchor, moved = detect(frames[0]), detect(frames[1]), detect(picture)
        if relative:
            value = source.value + scale * (moved.value - anchor.value)
            jacobians: Any = (moved.jacobian, anchor.jacobian, source.jacobian)
            if method.estimate_jacobian:
                moved = Keypoints(value, jacobians[0] @ jnp.linalg.inv(jacobians[1]) @ jacobians[2])
            else:
                moved = Keypoints(value, None)
        made: Any = method.game.generator.apply(variables["generator"], to_unit(frames[:1]), source, moved, train=False)
        return from_unit(made.prediction)[0]

    return jnp.stack([one(picture) for picture in frames[2:]])


def compare(frames: jax.Array, method: FirstOrderMotion, mode: str, tolerance: float) -> None:
    variables = variables_of(method, frames)
    source, anchor = Source(frames[:1]), VideoDrive(frames[1:2])
    out = method.reenactor(variables, source, anchor=anchor, mode=mode)(VideoDrive(frames[2:]))
    expected = plain(method, variables, frames, relative=mode == "relative")
    assert out.shape == (3, SIZE, SIZE, 3)
    assert out.dtype == frames.dtype
    assert np.ptp(expected) > 0.1, "a flat picture would prove nothing"
    assert np.abs(expected[0] - expected[2]).max() > 0.01, "nor would a still one"
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_equals_the_plain_forward(frames: jax.Array, mode: str) -> None:
    compare(frames, small(), mode, 1e-5)


@pytest.mark.parametrize("options", [{"align_corners": False}, {"estimate_jacobian": False}])
def test_variants_equal_the_plain_forward_exactly(frames: jax.Array, options: dict[str, bool]) -> None:
    with jax.enable_x64(True):
        compare(jnp.asarray(np.asarray(frames, np.float64)), small(**options), "relative", 1e-11)


def test_scaled_motion(frames: jax.Array) -> None:
    method = small()
    variables = variables_of(method, frames)
    found: Any = method.game.kp_detector.apply(variables["kp_detector"], to_unit(frames[:2]), train=False)
    areas = [hull_measure(np.asarray(points)) for points in found.value]
    animate = method.reenactor(variables, Source(frames[:1]), anchor=VideoDrive(frames[1:2]), adapt_scale=True)
    expected = plain(method, variables, frames, relative=True, scale=(areas[0] / areas[1]) ** 0.5)
    np.testing.assert_allclose(animate(VideoDrive(frames[2:])), expected, atol=1e-5)


def test_every_batch_size_gives_the_same_frames(frames: jax.Array) -> None:
    method = small()
    animate = method.reenactor(variables_of(method, frames), Source(frames[:1]), anchor=VideoDrive(frames[1:2]))
    together = animate(VideoDrive(frames[2:]))
    apart = jnp.concatenate([animate(VideoDrive(frames[i : i + 1])) for i in range(2, 5)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_motion_is_relative_to_the_anchor() -> None:
    """The anchor itself leaves the source alone; a rotated and shifted driver rotates and shifts the source."""
    value = jax.random.uniform(jax.random.key(0), (2, 1, 3, 2), minval=-0.5, maxval=0.5)
    jacobian = jnp.eye(2)[None, None, None] + 0.3 * jax.random.normal(jax.random.key(1), (2, 1, 3, 2, 2))
    source, anchor = Keypoints(value[0], jacobian[0]), Keypoints(value[1], jacobian[1])
    still = relative_keypoints(source, anchor, anchor)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), still, source)
    turn = jnp.asarray([[0.8, -0.6], [0.6, 0.8]])
    moved = Keypoints(value[1] + 0.1, turn @ jacobian[1])
    carried = relative_keypoints(source, moved, anchor, 2.0)
    np.testing.assert_allclose(carried.value, source.value + 0.2, atol=1e-5)
    jacobians: Any = carried.jacobian
    np.testing.assert_allclose(jacobians, turn @ jacobian[0], atol=1e-5)


def test_bfloat16_stays_close(frames: jax.Array) -> None:
    variables = variables_of(small(), frames)
    source, drive = Source(frames[:1]), VideoDrive(frames[2:])
    exact = small().reenactor(variables, source, mode="absolute")(drive)
    rounded = small(dtype="bfloat16").reenactor(variables, source, mode="absolute")(drive)
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - exact).mean() < 0.02
