"""Animation by the fast path against the plain forward pass, in all three modes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.types import Source, Variables, VideoDrive
from reenax.geometry.hull import hull_measure
from reenax.methods.mraa import MotionRepresentations
from reenax.methods.mraa.networks import Regions, framed
from reenax.methods.mraa.reenact import relative_regions

SIZE = 32
HOURGLASS = {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "scale_factor": 0.5, "kernel_size": 3}


@pytest.fixture(scope="module")
def method() -> MotionRepresentations:
    return from_mapping(
        MotionRepresentations,
        {
            "num_regions": 4,
            "region_predictor": {**HOURGLASS, "pad": 1},
            "bg_predictor": {"block_expansion": 4, "num_blocks": 1},
            "generator": {
                "block_expansion": 4,
                "num_down_blocks": 1,
                "num_bottleneck_blocks": 1,
                "pixelwise_flow_predictor": HOURGLASS,
            },
            "avd_network": {"id_bottle_size": 4, "pose_bottle_size": 4, "widths": (8,)},
        },
    )


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    """A source picture, an anchor and three driving frames, smooth enough for regions to spread."""
    coarse = jax.random.uniform(jax.random.key(1), (5, 6, 6, 3), minval=-1, maxval=1)
    return jax.image.resize(coarse, (5, SIZE, SIZE, 3), "cubic").clip(-1, 1)


@pytest.fixture(scope="module")
def variables(method: MotionRepresentations, frames: jax.Array) -> Variables:
    """Numbers that matter everywhere: no statistic, scale, bias or head is left at its neutral start."""
    shapes = jax.eval_shape(lambda key: method.init(key, {"source": frames[:1]}), jax.random.key(0))
    random = np.random.default_rng(0)

    def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=x.shape)
        if path[-1].key in ("scale", "var"):
            noise = 1 + 0.5 * np.abs(noise)
        elif x.ndim == 1:
            noise = 0.2 * noise
        else:
            noise = 0.8 * noise / np.sqrt(np.prod(x.shape[:-1]))
        return jnp.asarray(noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


@pytest.fixture(scope="module")
def regions(method: MotionRepresentations, variables: Variables, frames: jax.Array) -> list[Regions]:
    """Of every frame."""
    find = jax.jit(functools.partial(method.game.region_predictor.apply, train=False))
    found: Any = find(variables["region_predictor"], to_unit(frames))
    return [jax.tree.map(lambda x, i=i: x[i : i + 1], found) for i in range(5)]


@pytest.fixture(scope="module")
def plain(method: MotionRepresentations, variables: Variables, frames: jax.Array) -> Any:
    """One picture of the source moved to regions, through the generator as it is trained."""

    @jax.jit
    def paint(ours: Regions, theirs: Regions) -> jax.Array:
        generator, source = variables["generator"], to_unit(frames[:1])
        made: Any = method.game.generator.apply(generator, source, ours, theirs, None, train=False)
        return from_unit(made.prediction)[0]

    return paint


@pytest.mark.parametrize("mode", ["relative", "absolute", "avd"])
def test_equals_the_plain_forward(
    mode: str, method: MotionRepresentations, variables: Variables, frames: jax.Array, regions: Any, plain: Any
) -> None:
    ours, anchor, *theirs = regions
    if mode == "avd":
        swap: Any = functools.partial(method.game.avd_network.apply, variables["avd_network"], train=False)
        theirs = [swap(ours, r) for r in theirs]
    if mode == "relative":
        areas = [hull_measure(np.asarray(r.shift[0])) for r in (ours, anchor)]
        shifts = [ours.shift + (areas[0] / areas[1]) ** 0.5 * (r.shift - anchor.shift) for r in theirs]
        frames_of = [r.affine @ jnp.linalg.inv(anchor.affine) @ ours.affine for r in theirs]
        theirs = [Regions(s, r.covar, a) for s, r, a in zip(shifts, theirs, frames_of, strict=True)]
    expected = jnp.stack([plain(ours, r) for r in theirs])
    animate = method.reenactor(variables, Source(frames[:1]), anchor=VideoDrive(frames[1:2]), mode=mode)
    made = animate(VideoDrive(frames[2:]))
    assert np.ptp(expected) > 0.1, "a flat picture would prove nothing"
    assert np.abs(expected[0] - expected[2]).max() > 0.01, "nor would a still one"
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5)


def test_scale_can_be_left_alone(
    method: MotionRepresentations, variables: Variables, frames: jax.Array, regions: Any, plain: Any
) -> None:
    ours, anchor, first, *_ = regions
    anchored = {"anchor": VideoDrive(frames[1:2]), "adapt_scale": False}
    made = method.reenactor(variables, Source(frames[:1]), **anchored)(VideoDrive(frames[2:3]))
    np.testing.assert_allclose(made[0], plain(ours, relative_regions(ours, first, anchor)), atol=2e-5)


def test_motion_is_relative_to_the_anchor() -> None:
    """The anchor itself leaves the source alone; a turned and shifted driver turns and shifts the source."""
    random = np.random.default_rng(0)

    def made_up() -> Regions:
        affine = np.eye(2) + 0.3 * random.normal(size=(1, 3, 2, 2))
        shift = random.uniform(-0.5, 0.5, (1, 3, 2))
        return framed(jnp.asarray(shift, jnp.float32), jnp.asarray(affine, jnp.float32))

    source, anchor = made_up(), made_up()
    still = relative_regions(source, anchor, anchor)
    np.testing.assert_allclose(still.shift, source.shift, atol=1e-6)
    np.testing.assert_allclose(still.affine, source.affine, atol=1e-5)
    np.testing.assert_array_equal(still.covar, anchor.covar)
    turn = jnp.asarray([[0.8, -0.6], [0.6, 0.8]])
    carried = relative_regions(source, framed(anchor.shift + 0.1, turn @ anchor.affine), anchor, 2.0)
    np.testing.assert_allclose(carried.shift, source.shift + 0.2, atol=1e-6)
    np.testing.assert_allclose(carried.affine, turn @ source.affine, atol=1e-5)


def test_modes_are_declared(method: MotionRepresentations, variables: Variables, frames: jax.Array) -> None:
    assert method.options["mode"].choices == ("relative", "absolute", "avd")
    assert method.options["adapt_scale"].default is True
    with pytest.raises(UserError, match="mode must be one of relative, absolute, avd, got 'standard'"):
        method.reenactor(variables, Source(frames[:1]), mode="standard")
