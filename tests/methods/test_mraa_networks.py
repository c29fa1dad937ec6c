"""Regions, backgrounds, flows and the swap of shapes, part by part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.grids import coordinate_grid
from reenax.methods.mraa.game import equivariance_affine_loss, scaled
from reenax.methods.mraa.generator import heatmap_difference, sparse_motion
from reenax.methods.mraa.networks import (
    AVDNetwork,
    AVDParams,
    BackgroundParams,
    BackgroundPredictor,
    RegionParams,
    RegionPredictor,
    Regions,
    background_matrix,
    framed,
)

SIZE = (6, 5)


def made_up(count: int = 2, seed: int = 0) -> Regions:
    """Three regions each, of all directions."""
    random = np.random.default_rng(seed)
    shift = random.uniform(-0.5, 0.5, (count, 3, 2))
    affine = 0.3 * np.eye(2) + 0.1 * random.normal(size=(count, 3, 2, 2))
    return framed(jnp.asarray(shift, jnp.float32), jnp.asarray(affine, jnp.float32))


@pytest.mark.parametrize("pca_based", [True, False])
def test_regions_of_a_picture(pca_based: bool) -> None:
    params = RegionParams(
        block_expansion=4, num_blocks=1, max_features=8, scale_factor=0.5, pca_based=pca_based, pad=0, kernel_size=3
    )
    network = RegionPredictor(3, params)
    picture = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))

    @jax.jit
    def fresh(picture: jax.Array) -> Any:
        variables = network.init(jax.random.key(1), picture, train=False)
        return network.apply(variables, picture, train=False, mutable=["intermediates"])

    regions, seen = fresh(picture)
    heatmap = np.asarray(seen["intermediates"]["heatmap"][0], np.float64)
    assert heatmap.shape == (2, 6, 6, 3), "without padding the map is smaller than the 8x8 features"
    grid = np.asarray(coordinate_grid(6, 6), np.float64)
    shift = np.einsum("bijr,ijx->brx", heatmap, grid)
    np.testing.assert_allclose(regions.shift, shift, atol=1e-5)
    assert (np.ptp(regions.shift, axis=(0, 1)) > 1e-4).all()
    if not pca_based:
        np.testing.assert_allclose(regions.affine, np.broadcast_to(np.eye(2), regions.affine.shape), atol=1e-5)
        np.testing.assert_allclose(regions.covar, np.broadcast_to(np.eye(2), regions.affine.shape), atol=1e-5)
        return
    offset = grid[None, :, :, None] - shift[:, None, None]
    covar = np.einsum("bijr,bijrx,bijry->brxy", heatmap, offset, offset)
    np.testing.assert_allclose(regions.covar, covar, atol=1e-5)
    np.testing.assert_allclose(regions.affine @ np.swapaxes(regions.affine, -1, -2), covar, atol=1e-5)


@pytest.mark.parametrize(
    ("bg_type", "numbers", "rows"),
    [
        ("affine", [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]),
        ("shift", [7, 8], [[1, 0, 7], [0, 1, 8], [0, 0, 1]]),
        ("perspective", [1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3], [4, 5, 6], [7, 8, 1]]),
    ],
)
def test_backgrounds_begin_without_motion(bg_type: str, numbers: list[float], rows: list[list[float]]) -> None:
    matrix = background_matrix(jnp.asarray([numbers, numbers], jnp.float32), bg_type)
    np.testing.assert_array_equal(matrix, np.asarray([rows, rows], np.float32))
    network = BackgroundPredictor(BackgroundParams(block_expansion=4, num_blocks=1, max_features=4, bg_type=bg_type))
    pictures = jax.random.uniform(jax.random.key(0), (2, 2, 8, 8, 3))
    variables = jax.jit(lambda x: network.init(jax.random.key(1), x[0], x[1], train=False))(pictures)
    found = network.apply(variables, pictures[0], pictures[1], train=False)
    np.testing.assert_array_equal(found, np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_an_unknown_background_is_named() -> None:
    with pytest.raises(UserError, match="bg_type='sky' is unknown; use affine, shift, perspective or zero"):
        BackgroundParams(bg_type="sky")


def test_motion_between_equal_regions_is_none() -> None:
    regions = made_up()
    grid = coordinate_grid(*SIZE)
    flows = sparse_motion(regions, regions, None, SIZE, revert_axis_swap=True)
    np.testing.assert_allclose(flows, np.broadcast_to(grid, (2, 4, *SIZE, 2)), atol=1e-5)
    mirrored = regions._replace(affine=-regions.affine)
    again = sparse_motion(mirrored, regions, None, SIZE, revert_axis_swap=True)
    np.testing.assert_allclose(again, flows, atol=1e-5)
    turned = sparse_motion(mirrored, regions, None, SIZE, revert_axis_swap=False)
    wanted = 2 * regions.shift[:, :, None, None] - grid[None, None]
    np.testing.assert_allclose(turned[:, 1:], wanted, atol=1e-5)
    heat = heatmap_difference(regions, regions, SIZE, use_covar_heatmap=True)
    np.testing.assert_array_equal(heat, np.zeros((2, *SIZE, 4)))


def test_a_projective_background_divides_by_the_third_coordinate() -> None:
    regions = made_up()
    matrix = np.array([[1.1, 0.2, -0.1], [0.0, 0.9, 0.3], [0.05, -0.1, 1.0]], np.float32)
    flows = sparse_motion(
        regions, regions, jnp.asarray(np.stack([np.eye(3, dtype=np.float32), matrix])), SIZE, revert_axis_swap=True
    )
    grid = np.asarray(coordinate_grid(*SIZE))
    ahead = np.concatenate([grid, np.ones((*SIZE, 1), np.float32)], -1) @ matrix.T
    np.testing.assert_allclose(flows[0, 0], grid, atol=1e-6)
    np.testing.assert_allclose(flows[1, 0], ahead[..., :2] / ahead[..., 2:], atol=1e-6)


def test_heatmaps_reach_as_far_as_the_regions() -> None:
    """Or equally far in all directions, where they are asked not to."""
    driving, source = made_up(), made_up(seed=1)
    grid = np.asarray(coordinate_grid(*SIZE), np.float64)

    def drawn(regions: Regions, round_one: bool) -> np.ndarray:
        offset = grid[None, :, :, None] - np.asarray(regions.shift, np.float64)[:, None, None]
        covar = np.broadcast_to(0.01 * np.eye(2), regions.covar.shape) if round_one else np.asarray(regions.covar)
        return np.exp(-0.5 * np.einsum("bijrx,brxy,bijry->bijr", offset, np.linalg.inv(covar), offset))

    for round_one in (False, True):
        heat = heatmap_difference(source, driving, SIZE, use_covar_heatmap=not round_one)
        np.testing.assert_array_equal(heat[..., 0], np.zeros((2, *SIZE)))
        np.testing.assert_allclose(heat[..., 1:], drawn(driving, round_one) - drawn(source, round_one), atol=1e-5)


def test_a_warp_that_the_regions_follow_costs_nothing() -> None:
    regions = made_up()
    warp = jnp.broadcast_to(jnp.asarray([[0.9, 0.2], [-0.1, 1.1]]), regions.affine.shape)
    moved = jnp.linalg.inv(warp) @ regions.affine
    free = equivariance_affine_loss(regions.affine, warp, -moved, revert_axis_swap=True)
    assert float(free) == pytest.approx(0, abs=1e-5)
    # every frame is then off by 2 on its diagonal
    strict = equivariance_affine_loss(regions.affine, warp, -moved, revert_axis_swap=False)
    assert float(strict) == pytest.approx(1, abs=1e-5)


def test_a_stretched_picture_has_stretched_regions() -> None:
    regions, scale = made_up(), jnp.asarray([[1.2, 0.8], [0.9, 1.0]])
    stretched = scaled(regions, scale)
    diagonal = jnp.eye(2)[None, None] * scale[:, None, None, :]
    np.testing.assert_allclose(stretched.shift, regions.shift * scale[:, None], rtol=1e-6)
    np.testing.assert_allclose(stretched.affine, diagonal @ regions.affine, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(stretched.covar, framed(stretched.shift, stretched.affine).covar, rtol=1e-5, atol=1e-7)


def test_the_swap_of_shapes() -> None:
    """One identity serves many poses; a common sign of its axes changes nothing; pose and identity both count."""
    network = AVDNetwork(3, AVDParams(4, 4, (8, 16)))
    identity, pose = made_up(1, seed=1), made_up(4, seed=2)
    variables: Any = jax.jit(lambda a, b: network.init(jax.random.key(0), a, b, train=False))(identity, pose)
    apply = jax.jit(lambda a, b: network.apply(variables, a, b, train=False))
    found = apply(identity, pose)
    assert found.shift.shape == (4, 3, 2)
    np.testing.assert_allclose(found.covar, found.affine @ np.swapaxes(found.affine, -1, -2), atol=1e-5)
    flipped = apply(identity._replace(affine=-identity.affine), pose)
    np.testing.assert_array_equal(flipped.shift, found.shift)
    one_by_one = [apply(identity, jax.tree.map(lambda x, i=i: x[i : i + 1], pose)).shift for i in range(4)]
    np.testing.assert_allclose(jnp.concatenate(one_by_one), found.shift, atol=1e-6)
    assert np.abs(found.shift[0] - found.shift[1]).max() > 1e-4
    assert np.abs(apply(made_up(1, seed=5), pose).shift - found.shift).max() > 1e-4
