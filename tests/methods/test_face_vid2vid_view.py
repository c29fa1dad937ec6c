"""Poses, motions in space, free view, and what the motion of a volume costs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.core.types import Source, Variables, VideoDrive
from reenax.geometry.camera import Camera, euler_rotation
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.head.pose import PIVOT
from reenax.geometry.volumes import warp_volume
from reenax.methods.face_vid2vid import FaceVid2Vid
from reenax.methods.face_vid2vid.keypoints import (
    DetectorParams,
    EstimatorParams,
    HeadPose,
    Keypoints,
    RotationParams,
    compose,
    expected_angle,
    rotation_angles,
    rotation_matrix,
    to_picture,
    to_volume,
)
from reenax.methods.face_vid2vid.labels import LabelParams, labelled_pose
from reenax.methods.face_vid2vid.motion import (
    MotionParams,
    combined_flow,
    motion_inputs,
    moved_volumes,
    proposals,
)
from reenax.methods.face_vid2vid.networks import GeneratorParams
from reenax.methods.face_vid2vid.reenact import FreeViewAnimator, Prepared, View

SIZE = 32


def pose_of(yaw: float = 0, pitch: float = 0, roll: float = 0, translation: Any = 0.0, count: int = 1) -> HeadPose:
    angles = {n: jnp.full(count, float(a)) for n, a in (("yaw", yaw), ("pitch", pitch), ("roll", roll))}
    place = jnp.broadcast_to(jnp.asarray(translation, jnp.float32), (count, 3))
    return HeadPose(**angles, translation=place, expression=jnp.zeros((count, 4, 3)))


def test_bins_are_three_degrees() -> None:
    logits = jnp.full((1, 66), -1e9).at[0, 40].set(0.0)
    assert float(expected_angle(logits)[0]) == pytest.approx(21.0)
    assert float(expected_angle(jnp.zeros((1, 66)))[0]) == pytest.approx(-1.5, abs=1e-4)


def test_rotation_is_the_product_of_three_turns() -> None:
    def turn(axis: int, degrees: float) -> np.ndarray:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
        return matrix

    pose = pose_of(yaw=20, pitch=-10, roll=5)
    expected = turn(0, -10) @ turn(1, 20) @ turn(2, 5)
    matrix = rotation_matrix(pose, RotationParams())[0]
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    early = rotation_matrix(pose, RotationParams(("roll", "pitch", "yaw")))[0]
    np.testing.assert_allclose(early, turn(0, 5) @ turn(1, -10) @ turn(2, 20), atol=1e-6)
    back = [float(a[0]) for a in rotation_angles(matrix[None])]
    np.testing.assert_allclose(np.rad2deg(back), [-10, 20, 5], atol=1e-4)
    short = rotation_matrix(pose_of(yaw=180), RotationParams(half_turn=3.14))[0]
    assert float(short[0, 2]) == pytest.approx(np.sin(3.14), abs=1e-6)


def test_labels_are_the_pose_of_the_built_in_head() -> None:
    """A point of the head, moved as the head is moved, seen by a camera far away."""
    random, camera = np.random.default_rng(0), Camera()
    label = random.uniform(-0.5, 0.5, size=(3, 6)).astype(np.float32)
    label[:, 3:] *= 4
    points = random.uniform(-6, 6, size=(5, 3))

    def seen(points: np.ndarray) -> np.ndarray:
        """World centimetres in units of the picture: x right, y down, depth towards the camera."""
        return np.stack([points[:, 0], camera.height - points[:, 1], points[:, 2]], axis=-1) / camera.half_field

    found = labelled_pose(jnp.asarray(label), LabelParams(), RotationParams())
    translation = jnp.asarray(found.translation)
    pose = HeadPose(**found.angles, translation=translation, expression=jnp.zeros((3, 5, 3)))
    ours = compose(jnp.asarray(seen(points), jnp.float32)[None], pose, RotationParams())
    for i in range(3):
        rotation = np.asarray(euler_rotation(jnp.asarray(label[i, :3])))
        moved = (points - np.asarray(PIVOT)) @ rotation.T + np.asarray(PIVOT) + label[i, 3:]
        np.testing.assert_allclose(ours.value[i], seen(moved), atol=1e-5)


def test_channels_become_depth_and_back() -> None:
    x = jnp.arange(2 * 3 * 3 * 8.0).reshape(2, 3, 3, 8)
    volume = to_volume(x, 4)
    assert volume.shape == (2, 4, 3, 3, 2)
    np.testing.assert_array_equal(volume[0, 3, 1, 2], x[0, 1, 2, jnp.asarray([3, 7])])
    np.testing.assert_array_equal(to_picture(volume), x)


def some_keypoints(seed: int, count: int = 4) -> Keypoints:
    random = np.random.default_rng(seed)
    angles = {n: jnp.asarray(random.uniform(-30, 30, size=2), jnp.float32) for n in ("yaw", "pitch", "roll")}
    pose = HeadPose(**angles, translation=jnp.zeros((2, 3)), expression=jnp.zeros((2, count, 3)))
    value = jnp.asarray(random.uniform(-0.5, 0.5, size=(2, count, 3)), jnp.float32)
    return Keypoints(value, rotation_matrix(pose, RotationParams()))


@pytest.mark.parametrize("rotate", [False, True])
def test_motions_are_those_that_keypoints_propose(rotate: bool) -> None:
    """Written down as grids, one per keypoint; the weighted flow is their mean under the mask."""
    source, driving, size = some_keypoints(0), some_keypoints(1), (3, 4, 5)
    random = np.random.default_rng(2)
    volume = jnp.asarray(random.normal(size=(2, *size, 2)), jnp.float32)
    mask = jax.nn.softmax(jnp.asarray(random.normal(size=(2, *size, 5)), jnp.float32))
    grid = np.asarray(coordinate_grid(*size), np.float64)
    turn = np.asarray(source.rotation, np.float64) @ np.asarray(driving.rotation, np.float64).transpose(0, 2, 1)
    turn = turn if rotate else np.broadcast_to(np.eye(3), turn.shape)
    offset = grid[None, None] - np.asarray(driving.value, np.float64)[:, :, None, None, None]
    grids = np.einsum("bij,bkdhwj->bkdhwi", turn, offset) + np.asarray(source.value)[:, :, None, None, None]
    grids = np.concatenate([np.broadcast_to(grid, (2, 1, *grid.shape)), grids], axis=1)

    @jax.jit
    def ours(volume: jax.Array, mask: jax.Array) -> Any:
        motions = proposals(source, driving, rotate=rotate)
        return moved_volumes(volume, motions, align_corners=True), combined_flow(mask, motions)

    moved, flow = ours(volume, mask)
    expected = np.einsum("bdhwk,bkdhwi->bdhwi", np.asarray(mask, np.float64), grids)
    np.testing.assert_allclose(flow, expected, atol=1e-5)
    sample = jax.jit(warp_volume)
    for k in range(5):
        np.testing.assert_allclose(moved[..., k, :], sample(volume, jnp.asarray(grids[:, k], jnp.float32)), atol=2e-5)


@pytest.mark.parametrize("rotate", [False, True])
def test_warps_of_all_keypoints_need_less_than_100_megabytes(rotate: bool) -> None:
    """Forward and backward at the published size: 20 keypoints, a volume of 16x64x64, features included."""
    points, size = 20, (1, 16, 64, 64)

    def field(compressed: Any, features: Any, source: Keypoints, driving: Keypoints, mask: Any) -> Any:
        flow = combined_flow(mask, proposals(source, driving, rotate=rotate))
        parts = motion_inputs(compressed, source, driving, rotate=rotate, align_corners=True)
        return parts, flow, warp_volume(features, flow)

    def backward(*arguments: Any) -> Any:
        *inputs, cotangents = arguments
        return jax.vjp(field, *inputs)[1](cotangents)

    def shape(*sides: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sides, jnp.float32)

    keypoints = Keypoints(shape(1, points, 3), shape(1, 3, 3))  # pyright: ignore[reportArgumentType]
    inputs = (shape(*size, 4), shape(*size, 32), keypoints, keypoints, shape(*size, points + 1))
    outputs = (shape(*size, 5 * (points + 1)), shape(*size, 3), shape(*size, 32))
    memory: Any = jax.jit(backward).lower(*inputs, outputs).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 100e6


# --- animation


def small(**options: Any) -> FaceVid2Vid:
    motion = MotionParams(block_expansion=4, num_blocks=1, max_features=8, compress=2, kernel_size=3)
    values: dict[str, Any] = {
        "num_kp": 4,
        "kp_detector": DetectorParams(4, 1, 8, 2, 0.25, 0.1, 3),
        "he_estimator": EstimatorParams(4, 16, (1, 1)),
        "generator": GeneratorParams(4, 8, 1, 3, 2, 1, dense_motion=motion),
        **options,
    }
    return FaceVid2Vid(**values)


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    """A source picture, an anchor and two driving frames, smooth enough for keypoints to spread."""
    coarse = jax.random.uniform(jax.random.key(1), (4, 6, 6, 3), minval=-1, maxval=1)
    return jax.image.resize(coarse, (4, SIZE, SIZE, 3), "cubic").clip(-1, 1)


def variables_of(method: FaceVid2Vid, frames: jax.Array) -> Variables:
    """Numbers that matter everywhere, drawn on the host: no statistic, scale or bias is left at its neutral start."""
    shapes = jax.eval_shape(lambda key: method.init(key, {"source": frames[:1]}), jax.random.key(0))
    random = np.random.default_rng(0)

    def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=x.shape)
        if path[-1].key in ("scale", "var"):
            noise = 1 + 0.5 * np.abs(noise)
        elif x.ndim == 1:
            noise = 0.2 * noise
        else:
            noise = noise / np.sqrt(np.prod(x.shape[:-1]))
        return jnp.asarray(noise, frames.dtype)

    return jax.tree_util.tree_map_with_path(one, {n: shapes[n] for n in ("generator", "kp_detector", "he_estimator")})


def animated(frames: jax.Array, method: FaceVid2Vid, variables: Variables, **options: Any) -> jax.Array:
    run = method.reenactor(variables, Source(frames[:1]), anchor=VideoDrive(frames[1:2]), **options)
    return run(VideoDrive(frames[2:]))


def test_equals_the_plain_forward(frames: jax.Array) -> None:
    """In both modes, from a folded generator and a source that is encoded once."""
    method = small()
    variables = variables_of(method, frames)
    game = method.game

    @jax.jit
    def plain(variables: Variables) -> Any:
        canonical: Any = game.kp_detector.apply(variables["kp_detector"], (frames[:1] + 1) / 2, train=False)
        poses: Any = game.he_estimator.apply(variables["he_estimator"], (frames + 1) / 2, train=False)
        points = compose(canonical, poses, method.rotation)
        source, anchor, moved = (
            jax.tree.map(lambda x, s=s: x[s], points) for s in (slice(1), slice(1, 2), slice(2, 4))
        )
        since = moved.rotation @ anchor.rotation.swapaxes(1, 2)
        carried = Keypoints(source.value + moved.value - anchor.value, since @ source.rotation)
        repeated = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), source)
        pictures = jnp.repeat((frames[:1] + 1) / 2, 2, axis=0)
        made: Any = [
            game.generator.apply(variables["generator"], pictures, repeated, points, train=False).prediction  # pyright: ignore[reportAttributeAccessIssue]
            for points in (moved, carried)
        ]
        return [2 * x - 1 for x in made]

    for mode, expected in zip(("absolute", "relative"), plain(variables), strict=True):
        out = animated(frames, method, variables, mode=mode)
        assert np.ptp(expected) > 0.1, "a flat picture would prove nothing"
        np.testing.assert_allclose(out, expected, atol=3e-5)


def animator(view: View, **options: Any) -> FreeViewAnimator:
    game = small(**options).game
    return FreeViewAnimator(game.kp_detector, game.he_estimator, game.generator, game.generator, game.rotation, view)


CANONICAL = jnp.asarray([[[0.3, 0.0, 0.5], [-0.3, 0.1, 0.2], [0.0, 0.4, 0.4], [0.0, -0.4, 0.3]]])
NO_SHIFT = {n: jnp.zeros(()) for n in ("x", "y", "z")}


def viewed(view: View, motion: HeadPose, **given: float) -> Keypoints:
    pose = pose_of(yaw=3, translation=(0.1, 0.2, 0.0))
    prepared: Any = Prepared(None, CANONICAL, pose, compose(CANONICAL, pose, RotationParams()))  # pyright: ignore[reportArgumentType]
    numbers = {**NO_SHIFT, **{n: jnp.asarray(v, jnp.float32) for n, v in given.items()}}
    return animator(view).keypoints(prepared, motion, None, jnp.ones(()), numbers)


def test_given_angles_replace_those_of_the_driver() -> None:
    driver = pose_of(yaw=-5, pitch=7, roll=2, translation=(0.0, -0.1, 0.05))
    for given in ({"yaw": 20.0}, {"yaw": 20.0, "pitch": -10.0, "roll": 5.0}, {}):
        asked = driver._replace(**{n: jnp.full(1, v) for n, v in given.items()})
        expected = compose(CANONICAL, asked, RotationParams())
        found = viewed(View(tuple(given)), driver, **given)
        np.testing.assert_allclose(found.value, expected.value, atol=1e-6)
        np.testing.assert_allclose(found.rotation, expected.rotation, atol=1e-6)


def test_the_head_may_be_turned_further_and_put_elsewhere() -> None:
    driver = pose_of(yaw=-5, pitch=7, translation=(0.0, -0.1, 0.05))
    turned = viewed(View(("yaw",), turns=True), driver, yaw=20.0)
    both = rotation_matrix(pose_of(yaw=20), RotationParams()) @ rotation_matrix(driver, RotationParams())
    np.testing.assert_allclose(turned.rotation, both, atol=1e-6)
    driven = compose(CANONICAL, driver, RotationParams()).value
    moved = {"driver": (0.0, 0.0, 0.0), "source": (0.1, 0.3, -0.05), "middle": (0.0, 0.1, -0.05)}
    for place, away in moved.items():
        found = viewed(View(place=place), driver, x=0.5).value
        np.testing.assert_allclose(found - driven, np.broadcast_to(np.add(away, (0.5, 0, 0)), (1, 4, 3)), atol=1e-6)


def test_recentring_keeps_the_mean_depth_and_turns_expressions() -> None:
    driver = pose_of(yaw=-5)._replace(expression=jnp.zeros((1, 4, 3)).at[0, 0].set(jnp.asarray([0.1, 0.0, 0.0])))
    found = viewed(View(("yaw",), recentre=True), driver, yaw=40.0)
    assert float(found.value[..., 2].mean()) == pytest.approx(0.33, abs=1e-6)
    change = rotation_matrix(pose_of(yaw=45), RotationParams())[0]  # from -5 to 40 degrees
    still = viewed(View(("yaw",), recentre=True), driver._replace(expression=jnp.zeros((1, 4, 3))), yaw=40.0)
    offset = np.asarray(found.value - still.value)[0]
    expected = np.zeros((4, 3))
    expected[0] = 0.1 * np.asarray(change[:, 0])
    np.testing.assert_allclose(offset[:, :2], expected[:, :2], atol=1e-6)


def test_free_view_changes_the_picture_and_nothing_else(frames: jax.Array) -> None:
    method = small()
    variables = variables_of(method, frames)
    straight = animated(frames, method, variables, mode="absolute", frontal=True)
    same = animated(frames, method, variables, mode="absolute", yaw=0.0, pitch=0.0, roll=0)
    np.testing.assert_allclose(straight, same, atol=1e-6)
    side = animated(frames, method, variables, mode="absolute", frontal=True, yaw=30.0)
    assert side.shape == straight.shape
    assert float(jnp.abs(side - straight).max()) > 1e-3
    plain = animated(frames, method, variables, mode="absolute")
    moved = animated(frames, method, variables, mode="absolute", yaw=None, x=0.0)
    np.testing.assert_allclose(plain, moved, atol=1e-6)
    scaled = animated(frames, method, variables, adapt_scale=True)
    assert bool(jnp.isfinite(scaled).all())


def test_unknown_options_are_refused(frames: jax.Array) -> None:
    with pytest.raises(UserError, match=r"no option 'jaw'.*yaw"):
        small().reenactor({}, Source(frames[:1]), jaw=3.0)
    with pytest.raises(UserError, match="place must be one of driver, source, middle"):
        small().reenactor({}, Source(frames[:1]), place="left")


@pytest.mark.parametrize("name", ["yaw", "pitch", "roll", "view", "frontal", "place", "x", "y", "z", "recentre"])
def test_options_are_declared(name: str) -> None:
    assert FaceVid2Vid.options[name].help
    assert {"mode", "adapt_scale"} <= set(FaceVid2Vid.options)
