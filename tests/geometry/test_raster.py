"""The rasteriser against exhaustive search, convex hulls and its own promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from reenax.geometry.raster import (
    Capacity,
    barycentrics,
    interpolate,
    pixel_centres,
    rasterise,
    unit,
    vertex_normals,
)

SIZE, VERTICES, FACES = 32, 300, 300  # every mesh is padded to these: one compiled program
ROOM = Capacity(spans=4000, fragments=20000)


QUICKLY = {"xla_backend_optimization_level": 0}  # to compile


def draw(pixels, depth, faces, two_sided):
    return rasterise(pixels, depth, faces, size=SIZE, capacity=ROOM, two_sided=two_sided)


draw_one = jax.jit(draw, compiler_options=QUICKLY)


def padded(pixels, depth, faces, two_sided=True):
    """A mesh as the arguments of `draw`, filled up with points and faces without an area."""
    p, d = np.zeros((VERTICES, 2), np.float32), np.full(VERTICES, 5.0, np.float32)
    f, sides = np.zeros((FACES, 3), np.int32), np.zeros(FACES, bool)
    p[: len(pixels)], d[: len(pixels)], f[: len(faces)], sides[: len(faces)] = pixels, depth, faces, two_sided
    return jnp.asarray(p), jnp.asarray(d), jnp.asarray(f), jnp.asarray(sides)


def ball(rings=11, sectors=12):
    """A closed convex mesh, counter-clockwise from outside."""
    polar = np.pi * (np.arange(1, rings)) / rings
    around = 2 * np.pi * np.arange(sectors) / sectors
    sine, cosine = np.sin(polar)[:, None], np.cos(polar)[:, None]
    points = np.stack([sine * np.sin(around), cosine + 0 * around, sine * np.cos(around)], -1).reshape(-1, 3)
    points = np.concatenate([points, [[0, 1, 0], [0, -1, 0]]])
    top, bottom, faces = len(points) - 2, len(points) - 1, []
    for s in range(sectors):
        t = (s + 1) % sectors
        faces += [(top, s, t), (bottom, (rings - 2) * sectors + t, (rings - 2) * sectors + s)]
        for r in range(rings - 2):
            a, b, c, d = r * sectors + s, r * sectors + t, (r + 1) * sectors + s, (r + 1) * sectors + t
            faces += [(a, c, b), (b, c, d)]
    return points, np.array(faces)


def seen(points, scale=11.0, centre=(16.0, 16.0), distance=6.0):
    """A pinhole of our own: v down."""
    depth = distance - points[:, 2]
    flat = points[:, :2] / depth[:, None] * distance * scale
    return np.stack([centre[0] + flat[:, 0], centre[1] - flat[:, 1]], axis=1), depth


@pytest.fixture(scope="module")
def triangles():
    """Triangles of all sizes that pierce each other, some of them half outside of the picture."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(-4, 36, (60, 1, 2))
    pixels = (centre + rng.normal(size=(60, 3, 2)) * rng.uniform(0.2, 12, (60, 1, 1))).reshape(-1, 2)
    depth = rng.uniform(2, 9, 180)
    return pixels.astype(np.float32), depth.astype(np.float32), np.arange(180).reshape(60, 3)


def search(pixels, depth, faces):
    """Depths of all faces at all pixel centres (inf where they are not), and the distance from their edges."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    at, margin = np.full((len(faces), SIZE, SIZE), np.inf), np.empty((len(faces), SIZE, SIZE))
    for k, (a, b, c) in enumerate(pixels[faces].astype(np.float64)):
        cross = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((b, c), (c, a), (a, b))]
        area = sum(cross)
        weights = np.stack([e / area for e in cross])
        sides = [np.linalg.norm(q - p) for p, q in ((b, c), (c, a), (a, b))]
        margin[k] = np.min([w * abs(area) / s for w, s in zip(weights, sides, strict=True)], axis=0)
        inverse = (weights / depth[faces[k]].astype(np.float64)[:, None, None]).sum(axis=0)
        at[k] = np.where((weights >= 0).all(axis=0), 1 / inverse, np.inf)
    return at, margin


def test_finds_what_exhaustive_search_finds(triangles):
    pixels, depth, faces = triangles
    found = np.asarray(draw_one(*padded(pixels, depth, faces)).face)
    at, margin = search(pixels, depth, faces)
    sure = np.abs(margin).min(axis=0) > 2e-3  # pixel centres on an edge may go either way
    nearest = at.min(axis=0)
    assert sure.mean() > 0.95
    np.testing.assert_array_equal((found >= 0)[sure], np.isfinite(nearest)[sure])
    hit = sure & (found >= 0)
    got = np.take_along_axis(at, np.maximum(found, 0)[None], axis=0)[0]
    np.testing.assert_allclose(got[hit], nearest[hit], atol=1e-4)


def test_a_closed_convex_body_has_neither_cracks_nor_spills():
    points, faces = ball()
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    for k in range(20):
        scale = 3.0 + 2 * k  # from a dot to one that fills the picture
        pixels, depth = seen(
            Rotation.random(rng=np.random.default_rng(k)).apply(points), scale, centre=(16 + 0.1 * k, 16 - 0.07 * k)
        )
        found = np.asarray(draw_one(*padded(pixels, depth, faces, two_sided=False)).face)
        sides = ConvexHull(pixels).equations
        outside = (sides[:, :2] @ np.stack([x.ravel(), y.ravel()]) + sides[:, 2:]).max(axis=0).reshape(SIZE, SIZE)
        assert (found[outside < -2e-3] >= 0).all()
        assert (found[outside > 2e-3] == -1).all()


def test_backs_are_culled_unless_two_sided():
    points, faces = ball()
    pixels, depth = seen(points)
    front = np.asarray(draw_one(*padded(pixels, depth, faces, two_sided=False)).face)
    a, b, c = np.moveaxis(points[faces], 1, 0)
    towards = (np.cross(b - a, c - a) * (np.array([0, 0, 6.0]) - a)).sum(axis=1)
    assert (towards[front[front >= 0]] > 0).all()
    inside_out = faces[:, ::-1]
    culled = np.asarray(draw_one(*padded(pixels, depth, inside_out, two_sided=False)).face)
    assert (towards[culled[culled >= 0]] < 0).all()  # the far half, seen from inside
    both = np.asarray(draw_one(*padded(pixels, depth, inside_out, two_sided=True)).face)
    np.testing.assert_array_equal(both >= 0, front >= 0)
    assert (towards[both[both >= 0]] > 0).all()  # and again the near half hides the far one


def test_the_order_of_faces_does_not_matter(triangles):
    pixels, depth, faces = triangles
    order = np.random.default_rng(3).permutation(len(faces))
    plain = np.asarray(draw_one(*padded(pixels, depth, faces)).face)
    shuffled = np.asarray(draw_one(*padded(pixels, depth, faces[order])).face)
    np.testing.assert_array_equal(np.where(shuffled >= 0, order[shuffled], -1), plain)


def test_many_at_once_are_the_same_as_one_after_the_other(triangles):
    pixels, depth, faces = triangles
    meshes = [padded(pixels + shift, depth, faces) for shift in (0.0, 3.3, -7.1)]
    batch = jax.jit(jax.vmap(draw), compiler_options=QUICKLY)(*(jnp.stack(leaf) for leaf in zip(*meshes, strict=True)))
    for k, mesh in enumerate(meshes):
        one = draw_one(*mesh)
        np.testing.assert_array_equal(batch.face[k], one.face)
        assert batch.total[k] == one.total


def test_faces_that_reach_the_camera_are_left_out(triangles):
    pixels, depth, faces = triangles
    depth = depth.copy()
    depth[::6] = -1.0  # one corner of every second triangle
    found = np.asarray(draw_one(*padded(pixels, depth, faces)).face)
    assert (found[found >= 0] % 2 == 1).all()
    assert (found >= 0).any()


def test_totals_are_exact(triangles):
    pixels, depth, faces = triangles
    done = draw_one(*padded(pixels, depth, faces))
    at, margin = search(pixels, depth, faces)
    assert not done.overflow
    assert np.isfinite(at).sum() <= done.total <= (margin > -2e-3).sum()


def test_too_little_room_is_told():
    corner = np.array([[0.0, 0.0], [0.0, SIZE], [3.0, 0.0]])
    narrow, wide = np.concatenate([corner] * 100), np.concatenate([corner * [20, 2]] * 100)
    faces, depth = np.arange(300).reshape(100, 3), np.full(300, 5.0)
    few = draw_one(*padded(narrow, depth, faces))
    assert not few.overflow
    assert few.spans % 100 == 0
    assert few.face.max() == 0  # the first of equals
    spans = draw_one(*padded(narrow, depth, np.concatenate([faces] * 3)))
    assert spans.overflow
    assert spans.spans == 3 * few.spans > ROOM.spans
    fragments = draw_one(*padded(wide, depth, faces))
    assert fragments.overflow
    assert fragments.total > ROOM.fragments
    assert fragments.spans <= ROOM.spans


def test_more_faces_than_keys_can_name_are_refused():
    with pytest.raises(ValueError, match="at most 1048576 faces can be rasterised, got 1048577"):
        rasterise(jnp.zeros((3, 2)), jnp.ones(3), jnp.zeros((2**20 + 1, 3), jnp.int32), size=8, capacity=ROOM)


def test_depths_stay_apart_with_as_many_faces_as_large_models_have():
    count = 106_466
    faces = np.zeros((count, 3), np.int32)
    faces[100] = [0, 1, 2]  # half a millimetre behind the last one
    faces[-1] = [3, 4, 5]
    faces[7] = [6, 7, 8]  # how far the scene reaches
    corner = np.array([[0, 0], [0, 60], [60, 0]], np.float32)
    pixels = np.concatenate([corner, corner, corner + 25])
    depth = np.repeat(np.array([75.05, 75.0, 110.0], np.float32), 3)
    one_sided = jnp.zeros(count, bool)
    found = np.asarray(draw_one(jnp.asarray(pixels), jnp.asarray(depth), jnp.asarray(faces), one_sided).face)
    assert (found[:29, :29] == count - 1).all()


def test_interpolation_is_in_perspective():
    points, faces = ball()
    points = Rotation.random(rng=np.random.default_rng(1)).apply(points)
    pixels, depth = seen(points)
    p, d, f, sides = padded(pixels, depth, faces, two_sided=False)
    found = draw_one(p, d, f, sides).face
    corners, weights = jax.jit(barycentrics)(found, pixel_centres(SIZE), p, d, f)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    place = np.zeros((VERTICES, 3), np.float32)
    place[: len(points)] = points
    at = np.asarray(interpolate(jnp.asarray(place), corners, weights))
    again, _ = seen(at[np.asarray(found) >= 0])
    expected = np.asarray(pixel_centres(SIZE))[np.asarray(found) >= 0]
    np.testing.assert_allclose(again, expected, atol=1e-3)  # a point of the face, seen at the pixel's centre


def test_gradients_are_finite_with_slivers_and_an_empty_background(triangles):
    pixels, depth, faces = triangles
    faces = np.concatenate([faces, [[0, 0, 1], [3, 4, 3]]])
    p, d, f, sides = padded(pixels, depth, faces)
    found = draw_one(p, d, f, sides).face
    assert (found < 0).any()

    def total(p, d):
        corners, weights = barycentrics(found, pixel_centres(SIZE), p, d, f)
        return interpolate(jnp.concatenate([p, d[:, None]], axis=1), corners, weights).sum()

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(p, d):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_normals_of_a_ball_point_outward():
    points, faces = ball(21, 14)
    normals = np.asarray(jax.jit(vertex_normals)(jnp.asarray(points, jnp.float32), jnp.asarray(faces)))
    assert ((normals * points).sum(axis=1) > 0.98).all()
    lone = jax.jit(jax.grad(lambda v: vertex_normals(v, jnp.asarray([[0, 1, 2]]))[3].sum()))(jnp.ones((4, 3)))
    assert np.isfinite(lone).all()
    assert (np.asarray(unit(jnp.zeros((1, 3)))) == 0).all()
