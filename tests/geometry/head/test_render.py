"""Pictures of the synthetic head: labels that agree with each other and with what is drawn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.camera import Camera, project, unit_to_pixels
from reenax.geometry.head.appearance import BROWS, HAIR, IRIS, LIPS, PUPIL, SEGMENTS
from reenax.geometry.head.head import synthetic_head
from reenax.geometry.head.names import EYEBALL, HEAD, PARTS, TORSO
from reenax.geometry.head.pose import eye_centres, pose_vertices
from reenax.geometry.head.render import Buffers, capacity, look, render, to_display

from .conftest import (
    FIRST_RANDOM,
    FRAMES,
    FROM_BEHIND,
    LEFT_PROFILE,
    MOVED,
    NEUTRAL,
    PLAIN_LIGHT,
    SHUT,
    SIZE,
    WIDE,
    any_frame,
    stacked,
    weights,
)


@pytest.fixture(scope="module")
def one(half):
    """One frame at half the size, from 2x2 samples."""
    return lambda frame, camera=None: render(half, frame, camera or Camera(), size=SIZE // 2, supersampling=2)


@pytest.fixture(scope="module")
def vertices(half, frames):
    return np.asarray(jax.jit(jax.vmap(pose_vertices, in_axes=(None, 0)))(half, stacked(frames)))


def places(depth, camera=None):
    """World places of the surface at the pixel centres, by undoing the projection."""
    camera = camera or Camera()
    size = depth.shape[-1]
    v, u = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    scale = camera.half_field / camera.distance * depth
    return np.stack([u * scale, camera.height - v * scale, camera.distance - depth], axis=-1)


def test_every_run_gives_the_same_bits(one, frames):
    for field, mine, again in zip(Buffers._fields, one(frames[FIRST_RANDOM]), one(frames[FIRST_RANDOM]), strict=True):
        np.testing.assert_array_equal(mine, again, err_msg=field)


def test_other_values_do_not_compile_again(one, frames):
    compiled: Any = render
    one(frames[0])
    before = compiled._cache_size()
    near = one(frames[FIRST_RANDOM], Camera(half_field=10.5, height=-3.0))
    assert compiled._cache_size() == before
    assert near.mask.mean() > one(frames[FIRST_RANDOM]).mask.mean()


def test_values_are_in_their_ranges(shots):
    assert not shots.overflow.any()
    assert shots.mask.mean(axis=(1, 2)).min() > 0.2
    for picture in (shots.colour, shots.unlit):
        assert picture.dtype == np.float32
        assert np.isfinite(picture).all()
        assert np.abs(picture).max() <= 1
    background = ~shots.mask
    for field in (shots.albedo, shots.depth, shots.normals, shots.canonical, shots.uv):
        assert np.isfinite(field).all()
        assert (field[background] == 0).all()
    assert (shots.part[background] == -1).all()
    assert (shots.segments[background] == -1).all()
    assert shots.part.max() < len(PARTS)
    assert (shots.uv >= 0).all()
    assert (shots.uv <= 1).all()
    np.testing.assert_allclose(np.linalg.norm(shots.normals[shots.mask], axis=-1), 1, atol=1e-3)
    assert (shots.depth[shots.mask] > 40).all()


def test_depth_and_texture_place_the_surface_where_it_is(shots):
    torso = shots.part == TORSO  # which never moves
    for frame in range(len(torso)):
        at = places(shots.depth[frame])[torso[frame]]
        np.testing.assert_allclose(at, shots.canonical[frame][torso[frame]], atol=2e-3)
    bald = (shots.segments[NEUTRAL] == HEAD) & (shots.canonical[NEUTRAL][..., 1] < -2)
    apart = np.linalg.norm(places(shots.depth[NEUTRAL]) - shots.canonical[NEUTRAL], axis=-1)
    assert np.quantile(apart[bald], 0.9) < 1e-3  # the mean face at rest is its own texture space


def test_normals_of_eyes_point_from_their_centres(half, frames, shots):
    eyes = shots.part[WIDE[0]] == EYEBALL
    at = places(shots.depth[WIDE[0]])[eyes]
    centres = np.asarray(eye_centres(half, frames[WIDE[0]].identity))
    out = at - np.where(at[:, :1] > 0, centres[:1], centres[1:])
    cosine = (shots.normals[WIDE[0]][eyes] * out).sum(axis=1) / np.linalg.norm(out, axis=1)
    assert eyes.sum() > 15
    assert np.rad2deg(np.arccos(cosine)).max() < 6  # of facets 15 degrees wide


def test_normals_agree_with_depth(shots):
    """On smooth skin the neighbours lie in the plane that the normal says."""
    at = places(shots.depth[NEUTRAL])
    normal, skin = shots.normals[NEUTRAL], (shots.part[NEUTRAL] == TORSO)
    inner = skin[:, 1:] & skin[:, :-1]
    step = at[:, 1:] - at[:, :-1]
    step /= np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-9)
    mean = normal[:, 1:] + normal[:, :-1]
    off = np.abs((step * mean / np.linalg.norm(mean + 1e-9, axis=-1, keepdims=True)).sum(axis=-1))[inner]
    assert np.median(off) < 0.03


def test_light_that_comes_from_everywhere_shows_the_albedo(shots):
    mask = shots.mask[PLAIN_LIGHT]
    np.testing.assert_allclose(shots.colour[PLAIN_LIGHT][mask], shots.unlit[PLAIN_LIGHT][mask], atol=1e-4)
    expected = np.asarray(to_display(jnp.asarray(shots.albedo[PLAIN_LIGHT])))
    np.testing.assert_allclose(shots.unlit[PLAIN_LIGHT], expected, atol=1e-5)
    assert np.abs(shots.colour[NEUTRAL] - shots.unlit[NEUTRAL])[mask].mean() > 0.05


def test_the_background_is_the_gradient(frames, shots):
    for y, column in ((3, 2), (20, 60)):
        assert not shots.mask[NEUTRAL][y, column]
        u, v = (column + 0.5) / SIZE, (y + 0.5) / SIZE
        top, bottom = np.asarray(frames[NEUTRAL].background)
        linear = (top * (1 - v) + bottom * v) * (1 + 0.25 * np.sin(6 * u + 4 * v))
        np.testing.assert_allclose(shots.colour[NEUTRAL][y, column], linear ** (1 / 2.2) * 2 - 1, atol=1e-5)


def test_segments_refine_the_parts(frames, shots):
    assert SEGMENTS[: len(PARTS)] == PARTS
    refined = shots.segments >= len(PARTS)
    np.testing.assert_array_equal(shots.segments[~refined], shots.part[~refined])
    assert (shots.part[np.isin(shots.segments, [LIPS, BROWS, HAIR])] == HEAD).all()
    assert (shots.part[np.isin(shots.segments, [IRIS, PUPIL])] == EYEBALL).all()
    materials, segments, albedo = frames[NEUTRAL].materials, shots.segments[NEUTRAL], shots.albedo[NEUTRAL]
    assert set(np.unique(segments)) >= {HEAD, TORSO, LIPS, BROWS, HAIR, IRIS}
    # each takes the colour of its material, roughly
    for number, colour in ((LIPS, materials.lip), (HAIR, materials.hair), (TORSO, materials.cloth)):
        here = np.median(albedo[segments == number], axis=0)
        np.testing.assert_allclose(here, colour, rtol=0.35, atol=0.03)
    rows = {number: np.nonzero(segments == number)[0].mean() for number in (HAIR, BROWS, IRIS, LIPS, TORSO)}
    assert rows[HAIR] < rows[BROWS] < rows[IRIS] < rows[LIPS] < rows[TORSO]


def test_texture_coordinates_have_no_seam_in_the_picture(shots):
    above_neck = shots.canonical[FROM_BEHIND][..., 1] > -8
    back = (shots.part[FROM_BEHIND] == HEAD) & above_neck
    u = shots.uv[FROM_BEHIND][..., 0][back]
    assert (np.minimum(u, 1 - u) < 0.3).all()  # the front's half of the texture is not there
    assert (u < 0.1).any()
    assert (u > 0.9).any()


def test_there_are_no_holes(shots):
    """No pixel of background has surface on all four sides."""
    mask = np.pad(shots.mask, ((0, 0), (1, 1), (1, 1)))
    around = mask[:, :-2, 1:-1] & mask[:, 2:, 1:-1] & mask[:, 1:-1, :-2] & mask[:, 1:-1, 2:]
    assert not (around & ~shots.mask).any()


def test_landmarks_are_where_the_texture_says(half, shots):
    """The canonical place drawn at a visible landmark is the landmark's, within what a pixel covers."""
    target = np.asarray(half.model.landmarks(half.canonical))
    pixels = np.asarray(unit_to_pixels(jnp.asarray(shots.landmarks), SIZE))
    cell = np.clip(np.floor(pixels).astype(int), 0, SIZE - 1)
    number = np.arange(len(cell))[:, None]
    drawn = shots.canonical[number, cell[..., 1], cell[..., 0]]
    inner = shots.landmarks_visible & shots.mask[number, cell[..., 1], cell[..., 0]]
    apart = np.linalg.norm(drawn - target[None], axis=-1)[inner]
    assert np.median(apart) < 0.3  # a pixel covers 0.5 cm
    assert np.quantile(apart, 0.9) < 1.5
    assert inner.sum() > 400


def test_landmarks_move_with_the_head(shots):
    step = (shots.landmarks[MOVED] - shots.landmarks[NEUTRAL]).mean(axis=0)
    np.testing.assert_allclose(step, [2.0 / 15.5, -1.0 / 15.5], rtol=0.2)
    depth = shots.landmarks_3d[NEUTRAL]
    np.testing.assert_array_equal(depth[:, :2], shots.landmarks[NEUTRAL])
    assert depth[30, 2] == depth[:, 2].max()  # the tip of the nose
    np.testing.assert_allclose(depth[30, 2] * 15.5 * (SIZE - 1) / SIZE, 11.6, atol=0.5)  # centimetres


def test_landmarks_behind_something_are_known(half, shots, vertices):
    """Against a ray to the camera that is tested with every face."""
    faces = np.asarray(half.model.faces)
    eye = np.array([0, -2.2, 75.0])
    wrong = total = 0
    for number in (NEUTRAL, LEFT_PROFILE, *range(FIRST_RANDOM, FRAMES)):
        points = np.asarray(half.model.landmarks(jnp.asarray(vertices[number])), np.float64)
        corners = vertices[number][faces].astype(np.float64)
        hidden = np.array([_covered(point, eye, corners) for point in points])
        within = np.abs(shots.landmarks[number]).max(axis=1) < 1
        wrong += (shots.landmarks_visible[number][within] == hidden[within]).sum()
        total += within.sum()
    assert wrong / total < 0.06
    assert shots.landmarks_visible[NEUTRAL][17:].all()
    far, near = shots.landmarks_visible[LEFT_PROFILE][9:17], shots.landmarks_visible[LEFT_PROFILE][:8]
    assert far.mean() < 0.5 < near.mean()  # turned to +x: the cheek on that side goes behind


def _covered(point, eye, corners, slack=0.35):
    """Whether any triangle is between, more than `slack` before the point."""
    towards = eye - point
    towards /= np.linalg.norm(towards)
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(towards, e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (e1 * p).sum(axis=1)
        s = point - a
        u = (s * p).sum(axis=1) * inverse
        q = np.cross(s, e1)
        v = (q @ towards) * inverse
        t = (e2 * q).sum(axis=1) * inverse
        return bool(((u >= 0) & (v >= 0) & (u + v <= 1) & (t > slack)).any())


def test_supersampling_averages_colours_and_keeps_labels_at_the_centres(one, frames, shots):
    """Half the pixels with 2x2 samples are the samples of all the pixels; one frame is the same as one of many."""
    number = FIRST_RANDOM + 1
    fine = jax.tree.map(lambda field: field[number], shots)
    made = jax.tree.map(np.asarray, one(frames[number]))

    def quarters(field):
        return field.reshape(SIZE // 2, 2, SIZE // 2, 2, -1)

    for mine, theirs in ((made.colour, fine.colour), (made.unlit, fine.unlit)):
        off = np.abs(mine - quarters(theirs).mean(axis=(1, 3)))
        assert np.quantile(off, 0.999) < 1e-3  # other programs may round a pixel on an edge to the other side
    # a pixel's centre is the corner of its four samples: on smooth skin depth there is their mean, at no sample
    smooth = (quarters(fine.segments) == HEAD).all(axis=(1, 3, 4)) & (made.segments == HEAD)
    depth = quarters(fine.depth)[..., 0]
    middle = np.median(np.abs(made.depth - depth.mean(axis=(1, 3)))[smooth])
    for row, column in ((0, 0), (1, 1)):
        assert middle < 0.3 * np.median(np.abs(made.depth - depth[:, row, :, column])[smooth])
    np.testing.assert_array_equal(made.landmarks_visible.shape, (68,))
    assert made.total == fine.total
    assert not made.overflow


def test_closed_eyes_show_no_eyeball(shots):
    for shut, wide in zip(SHUT, WIDE, strict=True):
        assert (shots.part[shut] == EYEBALL).sum() <= 1
        assert (shots.part[wide] == EYEBALL).sum() > 10


def test_extremes_fit_the_room_even_close_up():
    head, size = synthetic_head(), 64
    room = capacity(head.model.faces.shape[0], size)

    @jax.jit
    def needed(frame):
        fragments = look(head, pose_vertices(head, frame), Camera(half_field=10.5), size).fragments
        return fragments.spans, fragments.total, fragments.overflow

    for seed in range(12):
        frame = any_frame(seed, extreme=1.2)
        spans, total, overflow = needed(frame.replace(expression=jnp.maximum(frame.expression, weights(jawOpen=1.0))))
        assert not overflow
        assert spans < 0.85 * room.spans
        assert total < 0.85 * room.fragments


def test_too_little_room_is_told(one, frames):
    """A camera that looks into the open mouth alone meets more layers than there is room for."""
    frame = frames[NEUTRAL].replace(expression=weights(jawOpen=1.0))
    assert not one(frame).overflow
    inside = one(frame, Camera(half_field=1.0, height=-7.0))
    assert inside.overflow
    assert inside.total > capacity(4182, SIZE).fragments


def test_sizes_without_sense_are_refused(half, frames):
    with pytest.raises(ValueError, match="size must be at least 2"):
        render(half, frames[0], Camera(), size=1)
    with pytest.raises(ValueError, match="supersampling at least 1"):
        render(half, frames[0], Camera(), size=8, supersampling=0)


def test_projection_of_the_camera_is_that_of_the_picture(half, frames, shots, vertices):
    """The tip of the tallest vertex and the picture's first row of head are at the same height."""
    pixels, _ = project(jnp.asarray(vertices[NEUTRAL]), Camera(), SIZE)
    head = np.nonzero((shots.part[NEUTRAL] == HEAD).any(axis=1))[0]
    assert abs(float(pixels[:, 1].min()) - head.min()) <= 1.0
