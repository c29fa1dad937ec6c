"""What is drawn from landmarks, how pictures and landmarks are warped, and the components of shapes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.methods.reenactgan.augmentation import AffineParams, compose, random_affine, warp_landmarks, warp_pictures
from reenax.methods.reenactgan.boundaries import (
    BOUNDARIES,
    MIRRORED,
    boundary_curves,
    boundary_maps,
    curve_matrix,
    picture_of,
    to_pixels,
)
from reenax.methods.reenactgan.shape import AlignerParams, coordinates, fresh_shape, moved_shape
from reenax.methods.reenactgan.transformer import edges

NAMES = tuple(BOUNDARIES)


def a_face() -> jax.Array:
    """68 landmarks in [-1, 1], roughly where a frontal face has them."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.7 * np.cos(angle), 0.8 * np.sin(angle)], axis=1)
    arc = np.linspace(-1, 1, 5)
    brows = [np.stack([c + 0.2 * arc, -0.5 + 0.05 * arc**2], axis=1) for c in (-0.35, 0.35)]
    bridge = np.stack([np.zeros(4), np.linspace(-0.3, 0.05, 4)], axis=1)
    base = np.stack([0.12 * arc, 0.15 - 0.03 * arc**2], axis=1)
    turn = np.array([np.pi, 2 * np.pi / 3, np.pi / 3, 0, -np.pi / 3, -2 * np.pi / 3])
    eyes = [np.stack([c + 0.13 * np.cos(turn), -0.3 - 0.06 * np.sin(turn)], axis=1) for c in (-0.35, 0.35)]
    outer = np.pi - 2 * np.pi * np.arange(12) / 12
    inner = np.pi - 2 * np.pi * np.arange(8) / 8
    lips = [
        np.stack([w * np.cos(t), 0.45 - h * np.sin(t)], axis=1) for w, h, t in ((0.3, 0.12, outer), (0.2, 0.05, inner))
    ]
    return jnp.asarray(np.concatenate([jaw, *brows, bridge, base, *eyes, *lips]), jnp.float32)


def test_curves_run_through_their_landmarks() -> None:
    """At knots a spline is its landmarks; the lower lines of the brows lie between brow and eye."""
    assert len(NAMES) == 15
    np.testing.assert_allclose(curve_matrix().sum(-1), 1, atol=1e-12)
    face = a_face()
    curves = boundary_curves(face)
    np.testing.assert_allclose(curves[NAMES.index("contour"), ::2], face[:17], atol=1e-6)
    np.testing.assert_allclose(curves[NAMES.index("nose base"), ::8], face[31:36], atol=1e-6)
    for side, eye in (("right", face[36:42]), ("left", face[42:48])):
        upper, lower = (curves[NAMES.index(f"{side} brow, {edge}")] for edge in ("upper", "lower"))
        assert (lower[:, 1] > upper[:, 1]).all()
        assert (lower[:, 1] < eye[:, 1].min()).all()


def test_curves_bend() -> None:
    """Between knots the contour keeps to the ellipse better than its chords do."""
    curve = np.asarray(boundary_curves(a_face())[0])[2:-2]
    radius = np.hypot(curve[:, 0] / 0.7, curve[:, 1] / 0.8)
    assert np.abs(radius - 1).max() < 0.2 * (1 - np.cos(np.pi / 32))


def test_maps_fall_off_from_curves_and_end() -> None:
    """Against distances to many points of each curve; exactly zero from three pixels on."""
    size = 24
    points = to_pixels(a_face(), 96, size)
    maps = np.asarray(jax.jit(boundary_maps, static_argnums=1)(points[None], size))[0]
    assert maps.shape == (size, size, 15)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="xy"), axis=-1)[:, :, None]
    for i, curve in enumerate(np.asarray(boundary_curves(points))):
        fine = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(curve)])
        distance = np.linalg.norm(grid - fine, axis=-1).min(-1)
        np.testing.assert_allclose(maps[..., i], np.where(distance < 3, np.exp(-(distance**2) / 2), 0), atol=2e-3)
    assert maps.max(axis=(0, 1)).min() > 0.8


def test_maps_are_of_the_same_place_at_every_size() -> None:
    """The middle of a picture is the middle of its map, and the outer edge of the border's pixels its edge."""
    middle = to_pixels(jnp.zeros((1, 2)), 64, 16)
    np.testing.assert_allclose(middle, 7.5)
    edge = to_pixels(jnp.asarray([[-1.0 - 1 / 63, 1.0 + 1 / 63]]), 64, 16)
    np.testing.assert_allclose(edge, [[-0.5, 15.5]], atol=1e-5)


def test_a_picture_of_boundaries() -> None:
    maps = jnp.zeros((1, 4, 4, 15)).at[0, 1, 1, 3].set(0.5).at[0, 2, 2, 7].set(2.0)
    picture = picture_of(maps, 4)
    assert picture.shape == (1, 4, 4, 3)
    assert float(picture[0, 1, 1, 0]) == float(picture[0, 2, 2, 1]) == 1.0
    assert float(picture[0, 0, 0, 0]) == -1.0


def test_mirrored_landmarks_are_those_of_the_other_side() -> None:
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))
    face = a_face()
    np.testing.assert_allclose(face[MIRRORED] * jnp.asarray([[-1.0, 1.0]]), face, atol=1e-6)


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_landmarks_go_where_the_picture_goes(mirrored: float) -> None:
    """A spot in the picture is found where its landmark is said to be."""
    size, place = 48, np.array([12, 30])
    yy, xx = np.mgrid[:size, :size]
    spot = np.exp(-((xx - place[0]) ** 2 + (yy - place[1]) ** 2) / 8)
    picture = jnp.asarray(np.repeat(spot[None, :, :, None], 3, axis=-1), jnp.float32)
    affine = compose(*(jnp.asarray([v]) for v in (5.0, (2.0, -3.0), 1.03, mirrored)), size)  # pyright: ignore[reportCallIssue]
    warped = np.asarray(warp_pictures(picture, affine))[0, :, :, 0]
    weight = np.maximum(warped, 0)
    found = np.array([(weight * xx).sum(), (weight * yy).sum()]) / weight.sum()
    landmarks = jnp.broadcast_to(jnp.asarray(place / ((size - 1) / 2) - 1, jnp.float32), (1, 68, 2))
    said = (np.asarray(warp_landmarks(landmarks, affine, size))[0, 0] + 1) * ((size - 1) / 2)
    np.testing.assert_allclose(found, said, atol=0.1)


def test_no_warp_is_none_and_draws_keep_their_bounds() -> None:
    picture = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=-1, maxval=1)
    still = AffineParams(rotation=0.0, shift=0.0, zoom=0.0, mirror=0.0)
    same = random_affine(jax.random.key(1), 2, 16, still)
    for nearest in (False, True):
        np.testing.assert_allclose(warp_pictures(picture, same, nearest=nearest), picture, atol=1e-5)
    drawn = random_affine(jax.random.key(2), 200, 256, AffineParams())
    linear = np.asarray(drawn.matrix[:, :, :2])
    zoom = np.sqrt(np.abs(np.linalg.det(linear)))
    assert 0.97 <= zoom.min() < 0.98 < 1.02 < zoom.max() <= 1.03
    turn = np.degrees(np.arcsin(-linear[:, 1, 0] / zoom))
    assert -5 <= turn.min() < -4 < 4 < turn.max() <= 5
    assert 0.4 < float(drawn.mirrored.mean()) < 0.6


def test_outside_of_a_picture_is_grey() -> None:
    affine = compose(*(jnp.asarray([v]) for v in (0.0, (8.0, 0.0), 1.0, 0.0)), 16)  # pyright: ignore[reportCallIssue]
    warped = warp_pictures(jnp.ones((1, 16, 16, 3)), affine)
    np.testing.assert_allclose(warped[0, :, :8], 127 / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(warped[0, :, 8:], 1, atol=1e-5)


def test_components_follow_the_landmarks() -> None:
    """After many batches of shapes with two large directions these are the first, whitened components."""
    params = AlignerParams(points=4, components=2, momentum=0.9)
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(8, 8)))[0][:2]
    mean = random.normal(size=8)
    move = jax.jit(lambda shape, points: moved_shape(shape, points, params))
    shape = fresh_shape(params)
    for _ in range(100):
        latent = random.normal(size=(64, 2)) * [9.0, 4.0]
        shape = move(shape, jnp.asarray((mean + latent @ axes).reshape(64, 4, 2), jnp.float32))
    found = np.asarray(shape["weight"])
    for i, deviation in enumerate((9.0, 4.0)):
        direction = found[:, i] / np.linalg.norm(found[:, i])
        assert abs(direction @ axes[i]) > 0.98
        assert 1 / np.linalg.norm(found[:, i]) == pytest.approx(deviation, rel=0.15)
    placed = coordinates(shape, jnp.asarray(mean.reshape(1, 4, 2), jnp.float32))
    assert float(jnp.abs(placed).max()) < 0.3


def test_the_first_batches_of_landmarks_weigh_alike() -> None:
    """After three, mean and covariance are those of all their landmarks, and whiten them: no trace of the start."""
    params = AlignerParams(points=3, components=2, momentum=0.99)
    points = np.random.default_rng(0).normal(20, 3, (3, 50, 3, 2)).astype(np.float32)
    shape = fresh_shape(params)
    for batch in points:
        shape = moved_shape(shape, jnp.asarray(batch), params)
    flat = points.reshape(-1, 6)
    np.testing.assert_allclose(shape["mean"], flat.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(shape["covariance"], np.cov(flat.T, bias=True), rtol=1e-3, atol=1e-3)
    placed = np.asarray(coordinates(shape, jnp.asarray(points.reshape(-1, 3, 2))))
    np.testing.assert_allclose(placed.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(placed.std(axis=0), 1, atol=1e-3)


def test_edges_are_the_mixed_second_derivative() -> None:
    """Of x * y it is 8 * 8 in the middle of a map: both filters sum 8 units of a slope of 1."""
    x = jnp.arange(7.0)
    maps = jnp.broadcast_to((x[:, None] * x[None])[None, :, :, None], (1, 7, 7, 15))
    np.testing.assert_allclose(edges(maps)[:, 2:-2, 2:-2], 64.0)
    assert float(jnp.abs(edges(jnp.ones((1, 7, 7, 2)))[:, 2:-2, 2:-2]).max()) == 0
