"""The synthetic head's geometry: topology, winding, symmetry, expressions, identities, landmarks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st

from reenax.geometry.face_model import check_face_model, load_face_model, save_face_model
from reenax.geometry.head.action_units import ACTION_UNITS, action_units
from reenax.geometry.head.expressions import LEAST, expression_fields, lid_weights
from reenax.geometry.head.head import SyntheticHead, synthetic_head
from reenax.geometry.head.identity import IDENTITIES, SEMANTIC, identity_fields
from reenax.geometry.head.landmarks import landmark_vertices
from reenax.geometry.head.names import EAR, EXPRESSIONS, EYE_BAG, EYEBALL, HEAD, MOUTH, PARTS, TONGUE, TORSO
from reenax.geometry.head.relief import EYE_CENTRE, EYE_RADIUS, MOUTH_CORNER, MOUTH_Y
from reenax.geometry.head.surface import base_surface, build_grid, profile
from reenax.geometry.head.template import build_template, eye_centre

# The same 68 landmarks seen in a mirror.
MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
MIRRORED += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
MIRRORED += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
LIDS = [(37, 41), (38, 40), (43, 47), (44, 46)]  # upper, lower
INNER_LIPS = [(61, 67), (62, 66), (63, 65)]


@pytest.fixture(scope="module", params=["full", "half"])
def detail(request):
    return request.param


@pytest.fixture(scope="module")
def template(detail):
    return build_template(detail)


@pytest.fixture(scope="module")
def head(detail) -> SyntheticHead:
    return jax.tree.map(np.asarray, synthetic_head(detail))


def field(head: SyntheticHead, *names: str) -> np.ndarray:
    return np.sum([head.model.expression_basis[EXPRESSIONS.index(name)] for name in names], axis=0)


def gaps(head: SyntheticHead, vertices: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Heights of the first landmark of each pair above the second."""
    places = vertices[head.model.landmark_vertices[:, 0]]
    return np.array([places[a, 1] - places[b, 1] for a, b in pairs])


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.cross(b - a, c - a)


def mirror_of(points: np.ndarray) -> np.ndarray:
    """The number of each point's mirror image, where all points are distinct enough."""
    distance, number = scipy.spatial.KDTree(points).query(points * [-1, 1, 1])
    assert distance.max() < 1e-9
    return np.asarray(number)


# --- surface and topology


def test_the_profile_passes_through_its_knots_and_is_smooth():
    knots = profile(np.arange(18.0))
    np.testing.assert_allclose(knots[9], [-7.0, 9.0, -4.2, 6.6, -1.2, -6.5, -7.4], atol=1e-12)
    before, after = profile(np.array([9 - 1e-6])), profile(np.array([9 + 1e-6]))
    np.testing.assert_allclose((knots[9] - before) / 1e-6, (after - knots[9]) / 1e-6, atol=1e-4)


@given(st.floats(0, 17), st.floats(-np.pi, np.pi))
@settings(max_examples=50, deadline=None)
def test_the_smooth_head_is_symmetric_and_turns_with_theta(v, theta):
    right, left = (base_surface(np.array([v]), np.array([sign * theta]))[0] for sign in (1, -1))
    np.testing.assert_allclose(right * [-1, 1, 1], left, atol=1e-12)
    assert right[0] * np.sin(theta) >= -1e-12


def test_the_grid_keeps_the_rows_and_corners_of_its_slits(detail):
    grid = build_grid(detail)
    assert {6.0, 9.0} <= set(grid.v.tolist())
    for name, corners in (("mouth", (-21, 21)), ("left_eye", (12, 39)), ("right_eye", (-39, -12))):
        slit = grid.slits[name]
        assert tuple(grid.degrees[slit.columns[[0, -1]]]) == corners
        assert (slit.upper[[0, -1]] == slit.lower[[0, -1]]).all()
        assert not set(slit.upper[1:-1]) & set(slit.lower)
        side = grid.side_mouth if name == "mouth" else grid.side_eye
        assert (side[slit.upper[1:-1]] == 1).all()
        assert (side[slit.lower[1:-1]] == -1).all()
        assert (side[slit.upper[[0, -1]]] == 0).all()


def test_the_full_head_has_the_documented_size():
    template = build_template("full")
    assert len(template.vertices) == 7582
    assert len(template.faces) == 14410
    assert template.on_skin.sum() == 4719
    assert (np.diff(template.vertex_part.argsort(kind="stable")[: len(template.grid.row)]) == 1).all()


def test_the_half_head_is_the_full_one_with_fewer_points():
    full, half = build_template("full"), build_template("half")
    of_full, of_half = (t.vertices[landmark_vertices(t)] for t in (full, half))
    np.testing.assert_array_equal(of_half, of_full)
    assert len(half.vertices) < 0.35 * len(full.vertices)
    skin, all_points = half.vertices[half.on_skin], full.vertices[full.on_skin]
    distance = np.linalg.norm(skin[:, None] - all_points[None], axis=-1).min(axis=1)
    assert distance.max() == 0


def test_edges_are_shared_in_opposite_directions(template):
    for number in range(len(PARTS)):
        faces = template.faces[template.face_part == number]
        edges = np.concatenate([faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
        assert len(np.unique(edges, axis=0)) == len(edges), PARTS[number]
        assert (faces[:, 0] != faces[:, 1]).all()


def test_linings_hang_on_the_edges_of_the_openings(template):
    skin = template.faces[template.face_part == HEAD]
    open_edges = {tuple(e) for e in np.concatenate([skin[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]).tolist()}
    for part, slits in ((MOUTH, ["mouth"]), (EYE_BAG, ["left_eye", "right_eye"])):
        lining = template.faces[template.face_part == part]
        for name in slits:
            loop = template.grid.slits[name].loop
            assert np.isin(loop, lining).all()
            for edge in zip(loop.tolist(), np.roll(loop, -1).tolist(), strict=True):
                assert (edge in open_edges) != (edge[::-1] in open_edges)


def test_closed_parts_face_outwards(template):
    area = normals(template.vertices, template.faces)
    centre = template.vertices[template.faces].mean(axis=1)

    def outward(part: int, middle: np.ndarray) -> np.ndarray:
        mask = template.face_part == part
        return ((centre[mask] - middle[mask]) * area[mask]).sum(axis=1)

    sides = np.where(centre[:, :1] > 0, 1, -1) * np.array([1, 0, 0])
    up = np.array([0, 1, 1])
    eyes = sides * EYE_CENTRE[0] + np.array(EYE_CENTRE) * up
    ears = sides * 7.3 + np.array([0, -0.7, -1.3])
    tongue = np.broadcast_to(template.vertices[template.vertex_part == TONGUE].mean(axis=0), centre.shape)
    for part, middle in ((EYEBALL, eyes), (EAR, ears), (TONGUE, tongue)):
        assert outward(part, middle).min() > 0, PARTS[part]
    axis = centre * np.array([0, 1, 0]) - np.array([0, 0, 2])
    for part in (HEAD, TORSO):
        assert (outward(part, axis) > 0).mean() > 0.97, PARTS[part]


# --- the mean head


def test_the_mean_head_is_its_own_mirror_image(template):
    used = np.unique(template.faces)
    image = mirror_of(template.vertices[used])
    np.testing.assert_allclose(template.canonical[used][image], template.canonical[used] * [-1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(template.jaw[used][image], template.jaw[used], atol=1e-9)


def test_lids_are_open_around_the_eyeball_and_lips_touch(head, template):
    assert gaps(head, head.model.mean, LIDS).min() > 0.7
    np.testing.assert_allclose(gaps(head, head.model.mean, INNER_LIPS), 0, atol=1e-6)
    for side, weight in enumerate(lid_weights(template)):
        distance = np.linalg.norm(head.model.mean[weight > 0.5] - head.eye_centre[side], axis=1)
        assert distance.min() > EYE_RADIUS


def test_weights_are_weights(template):
    for weight in (template.jaw, template.head, template.follow, lid_weights(template)):
        assert weight.min() >= 0
        assert weight.max() <= 1
    assert (template.head[template.vertex_part == TORSO] == 0).all()
    chin = (template.canonical[:, 1] < -9) & (template.canonical[:, 2] > 5)
    assert (template.jaw[chin & template.on_skin] > 0.8).all()
    eyes_and_brow = (template.canonical[:, 1] > -1) & (np.abs(template.canonical[:, 0]) < 5)
    assert (template.jaw[eyes_and_brow] < 0.005).all()


def test_texture_coordinates_are_in_range_and_jump_only_behind(template):
    assert template.uv.min() >= 0
    assert template.uv.max() <= 1
    skin = template.faces[template.face_part == HEAD]
    jump = np.ptp(template.uv[skin, 0], axis=1) > 0.5
    assert (template.vertices[skin[jump], 2] < 0).all()
    parts = template.vertex_part
    below = template.uv[(parts != HEAD) & (parts != EYE_BAG) & (parts != MOUTH), 1]
    assert below.max() < template.uv[template.on_skin, 1].min()


# --- landmarks


def test_landmarks_are_68_distinct_points_of_a_symmetric_face(template):
    vertices = landmark_vertices(template)
    assert len(set(vertices.tolist())) == 68
    assert template.on_skin[vertices].all()
    places = template.canonical[vertices]
    np.testing.assert_allclose(places[MIRRORED] * [-1, 1, 1], places, atol=1e-9)
    assert (places[[30, 33, 51, 57, 8], 0] == 0).all()
    assert (np.diff(places[:17, 0]) > 0).all()  # from the side of x < 0 along the chin
    assert (np.diff(places[17:27, 0]) > 0).all()
    assert places[30, 2] == places[:, 2].max()  # the tip of the nose


def test_eyes_are_as_far_apart_as_those_of_people(head):
    places = np.asarray(head.model.landmarks(jnp.asarray(head.model.mean)))
    apart = np.linalg.norm(places[36:42].mean(axis=0) - places[42:48].mean(axis=0))
    assert 5 < apart < 7
    assert places[62, 1] == pytest.approx(MOUTH_Y, abs=0.1)
    assert places[64, 0] == pytest.approx(MOUTH_CORNER, abs=0.05)


# --- expressions


def test_expressions_are_finite_and_stay_where_they_belong(head, template):
    basis = head.model.expression_basis
    assert np.isfinite(basis).all()
    assert (np.abs(basis[basis != 0]) >= LEAST).all()
    moved = (basis != 0).any(axis=2)
    assert moved.any(axis=1).all()
    assert moved.mean(axis=1).max() < 0.35
    largest = np.linalg.norm(basis, axis=2).max(axis=1)
    assert largest.max() < 4.5
    assert not moved[:, template.vertex_part == TORSO].any()
    assert not moved[:, template.vertex_part == EYEBALL].any()
    assert moved[EXPRESSIONS.index("tongueOut")].tolist() == (template.vertex_part == TONGUE).tolist()
    y = template.canonical[:, 1]
    for name, row in zip(EXPRESSIONS, moved, strict=True):
        low, high = {"jaw": (-25, 4), "bro": (-2, 6), "eye": (-3, 4)}.get(name[:3], (-14, 4))
        assert y[row].min() > low, name
        assert y[row].max() < high, name


def test_left_expressions_are_mirrored_right_ones(head, template):
    used = np.unique(template.faces)
    image = mirror_of(template.vertices[used])
    for name in EXPRESSIONS:
        if name.endswith("Left"):
            left = field(head, name)[used]
            right = field(head, name.removesuffix("Left") + "Right")[used]
            np.testing.assert_allclose(right[image] * [-1, 1, 1], left, atol=LEAST, err_msg=name)


def test_an_open_jaw_parts_the_lips_and_closing_brings_them_together(head):
    opened = head.model.mean + field(head, "jawOpen")
    assert gaps(head, opened, INNER_LIPS).min() > 2
    closed = opened + field(head, "mouthClose")
    assert 0 < gaps(head, closed, INNER_LIPS).max() < 0.15 * gaps(head, opened, INNER_LIPS).max()
    upper = head.model.landmark_vertices[[61, 62, 63], 0]
    assert np.abs(field(head, "jawOpen")[upper, 1]).max() < 0.2


@pytest.mark.parametrize("names", [("jawOpen",), ("mouthLowerDown*",), ("mouthUpperUp*",), ("mouthFunnel",)])
def test_lips_part_as_their_action_unit_says(head, names):
    names = [name.replace("*", side) for name in names for side in ("Left", "Right")[: 1 + ("*" in name)]]
    weight = 0.4
    weights = np.array([weight if name in names else 0 for name in EXPRESSIONS], np.float32)
    gap = gaps(head, head.model.mean + weight * field(head, *names), INNER_LIPS)[1]
    assert action_units(weights)[ACTION_UNITS.index("AU25")] == pytest.approx(5 * gap / 1.65, abs=0.15)


def test_corners_of_the_mouth_go_where_the_names_say(head):
    corner = head.model.landmark_vertices[64, 0]  # at x > 0
    moves = {name: field(head, name)[corner] for name in EXPRESSIONS if name.startswith("mouth")}
    assert moves["mouthSmileLeft"][1] > 0.4
    assert moves["mouthSmileLeft"][0] > 0.3
    assert np.abs(moves["mouthSmileRight"]).max() < 0.05
    assert moves["mouthFrownLeft"][1] < -0.4
    assert moves["mouthPucker"][0] < -0.4
    assert moves["mouthLeft"][0] > 0.3
    assert moves["mouthRight"][0] < -0.3


# --- identities


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_everybody_can_close_the_eyes(seed):
    head = jax.tree.map(np.asarray, synthetic_head("half"))
    identity = np.random.default_rng(seed).standard_normal(IDENTITIES).clip(-3, 3).astype(np.float32)
    person = head.model.mean + np.tensordot(identity, head.model.identity_basis, 1)
    opened = gaps(head, person, LIDS)
    closed = gaps(head, person + field(head, "eyeBlinkLeft", "eyeBlinkRight"), LIDS)
    assert opened.min() > 0.4
    assert (closed < 0.4 * opened).all()
    one = gaps(head, person + field(head, "eyeBlinkLeft"), LIDS)
    np.testing.assert_allclose(one[:2], opened[:2], atol=1e-5)
    np.testing.assert_allclose(one[2:], closed[2:], atol=1e-5)


def test_identity_fields_have_their_sizes_and_leave_the_torso(template):
    fields = identity_fields(template)
    assert fields.shape == (IDENTITIES, len(template.vertices), 3)
    assert fields.dtype == np.float32
    assert np.isfinite(fields).all()
    on_head = template.vertex_part != TORSO
    assert (fields[:, ~on_head] == 0).all()
    size = np.sqrt((fields[len(SEMANTIC) :, on_head].astype(float) ** 2).sum(axis=2).mean(axis=1))
    expected = 0.8 * 0.34 * (1 + np.arange(64)) ** -0.55 * np.where(np.arange(64) < 44, 1, 0.5)
    np.testing.assert_allclose(size, expected, rtol=1e-5 if len(template.vertices) == 7582 else 0.2)


def test_the_drawn_fields_are_the_same_everywhere():
    fields = identity_fields(build_template("full"))
    tip_of_the_nose = landmark_vertices(build_template("full"))[30]
    expected = [
        [0.0, -0.09880026, 0.08221532],
        [0.0, 0.004671568, -0.1082751],
        [-0.003851686, -0.001485136, 0.002245093],
    ]
    np.testing.assert_allclose(fields[[16, 40, 79], tip_of_the_nose], expected, atol=1e-6)


def test_both_details_show_the_same_person():
    full, half = build_template("full"), build_template("half")
    distance = np.linalg.norm(half.vertices[half.on_skin][:, None] - full.vertices[full.on_skin][None], axis=-1)
    same = distance.argmin(axis=1)
    fields = identity_fields(full)[:, : full.on_skin.sum()][:, same]
    np.testing.assert_allclose(identity_fields(half)[:, : half.on_skin.sum()], fields, atol=1e-6)


def test_all_but_the_last_fields_are_symmetric():
    template = build_template("half")
    used = np.unique(template.faces)
    used = used[np.abs(template.vertices[used, 0]) > 1e-9]  # on the line x = 0 the cheeks have a step
    image = mirror_of(template.vertices[used])
    fields = identity_fields(template)[:, used]
    difference = np.abs(fields[:, image] * np.array([-1, 1, 1], np.float32) - fields).max(axis=(1, 2))
    assert difference[:-20].max() < 1e-5
    assert difference[-20:].min() > 1e-3


def test_eyeballs_move_as_a_whole(head, template):
    for number, (first, end) in enumerate(template.eyes):
        fields = head.model.identity_basis[:, first:end]
        np.testing.assert_array_equal(fields, np.broadcast_to(head.eye_identity[:, number][:, None], fields.shape))
        assert (head.eye[first:end] == number + 1).all()
        middle = eye_centre(1 - 2 * number)
        np.testing.assert_allclose(head.eye_centre[number], middle, atol=1e-6)
        radius = np.linalg.norm(head.model.mean[first:end] - middle.astype(np.float32), axis=1)
        np.testing.assert_allclose(radius, EYE_RADIUS, atol=1e-5)


# --- the arrays


def test_the_head_is_a_face_model_that_can_be_kept(head, detail, tmp_path):
    check_face_model(synthetic_head(detail).model)
    save_face_model(synthetic_head(detail).model, tmp_path / "head.npz")
    loaded = load_face_model(tmp_path / "head.npz")
    np.testing.assert_array_equal(np.asarray(loaded.mean), head.model.mean)
    assert loaded.expression_names == EXPRESSIONS
    assert set(loaded.regions) >= {"face", "mouth", "eyes", "skin"}


def test_the_head_is_made_once_and_may_first_be_asked_for_while_tracing(detail):
    synthetic_head.cache_clear()

    @jax.jit
    def total():
        return synthetic_head(detail).model.mean.sum()

    expected = build_template(detail).vertices.sum()
    assert float(total()) == pytest.approx(expected, rel=1e-4)
    assert synthetic_head(detail) is synthetic_head(detail)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(synthetic_head(detail)))
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(synthetic_head(detail))}
    assert dtypes == {"float32", "int32", "bool"}


def test_regions_are_where_they_are_called(head):
    regions, places = head.model.regions, head.canonical
    assert (places[regions["eyes"], 1] > -2.1).all()
    assert (places[regions["mouth"], 1] < -5.5).all()
    assert (places[regions["face"], 1] > -12).all()
    assert not (regions["hair"] & regions["skin"]).any()
    for vertex in head.model.landmark_vertices[17:, 0]:
        assert regions["face"][vertex]


def test_local_coordinates_of_the_parts(template):
    parts, local = template.vertex_part, template.local
    hair, theta, v = local[template.on_skin].T
    assert hair.min() == 0
    assert hair.max() == 1
    np.testing.assert_allclose(np.rad2deg([theta.min(), theta.max()]), [-72, 280])
    assert (v.min(), v.max()) == (0, 17)
    for part in (EYEBALL, TONGUE, EAR):
        np.testing.assert_allclose(np.linalg.norm(local[parts == part], axis=1), 1, atol=1e-9)
    assert local[parts == EYEBALL][:, 2].max() == 1  # the pole, which looks forward


def test_expression_fields_are_in_the_order_of_their_names(template):
    fields = expression_fields(template)
    assert fields.shape == (52, len(template.vertices), 3)
    assert fields.dtype == np.float32
    jaw = fields[EXPRESSIONS.index("jawForward")]
    np.testing.assert_allclose(jaw[:, 2], np.where(template.jaw * 0.9 < LEAST, 0, template.jaw * 0.9), atol=1e-6)
