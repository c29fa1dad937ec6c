"""Gradients of pictures against finite differences, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.camera import Camera
from reenax.geometry.head.pose import pose_vertices
from reenax.geometry.head.render import look, render

from .conftest import QUICKLY, any_frame, weights

SIZE = 32
STEP = 1e-6
REACHED = ("identity", "expression", "rotation", "translation", "gaze", "light", "key_light")


def doubled(tree):
    """Floating point leaves in double precision."""

    def double(leaf):
        array = np.asarray(leaf)
        return jnp.asarray(array, jnp.float64 if np.issubdtype(array.dtype, np.floating) else array.dtype)

    return jax.tree.map(double, tree)


class Problem:
    """A weighted sum over everything a picture has that can be differentiated, inside a mask of pixels."""

    def __init__(self, half):
        frame = any_frame(11).replace(expression=weights(jawOpen=0.5, mouthSmile=0.4, eyeBlink=0.3))
        self.head, self.frame, self.camera = doubled((half, frame, Camera()))
        rng = np.random.default_rng(0)
        self.fields = {
            "colour": rng.normal(size=(SIZE, SIZE, 3)),
            "unlit": rng.normal(size=(SIZE, SIZE, 3)),
            "depth": 0.1 * rng.normal(size=(SIZE, SIZE)),
            "normals": rng.normal(size=(SIZE, SIZE, 3)),
            "uv": rng.normal(size=(SIZE, SIZE, 2)),
            "landmarks_3d": 10 * rng.normal(size=(68, 3)),
        }

        def total(frame, camera, head, mask):
            made = render(head, frame, camera, size=SIZE)
            faces = look(head, pose_vertices(head, frame), camera, SIZE).fragments.face
            return self.measure(made, mask), (made, faces)

        self.value_and_grad = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True), compiler_options=QUICKLY)

    def measure(self, made, mask):
        parts = []
        for name, weight in self.fields.items():
            field = getattr(made, name)
            here = 1.0 if name == "landmarks_3d" else mask.reshape(mask.shape + (1,) * (field.ndim - 2))
            parts.append((field * weight * here).sum())
        return sum(parts)

    def made(self, frame, camera):
        return self.value_and_grad(frame, camera, self.head, jnp.ones((SIZE, SIZE)))[0][1]

    def compare(self, change):
        """The derivative along a change of (frame, camera), the difference quotient, and the share of pixels compared.

        Those are the pixels in which the same face wins before and after.
        """

        def stepped(step):
            return self.made(*jax.tree.map(lambda leaf, d: leaf + step * d, (self.frame, self.camera), change))

        (before, first), (after, second) = stepped(-STEP), stepped(STEP)
        mask = (first == second).astype(jnp.float64)
        quotient = (self.measure(after, mask) - self.measure(before, mask)) / (2 * STEP)
        (_, _), gradient = self.value_and_grad(self.frame, self.camera, self.head, mask)
        products = jax.tree.map(lambda g, d: (g * d).sum(), gradient, change)
        return float(sum(jax.tree.leaves(products))), float(quotient), float(mask.mean())


@pytest.fixture(scope="module")
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem(double, half):
    return Problem(half)


@pytest.fixture(scope="module")
def gradient(problem):
    mask = jnp.ones((SIZE, SIZE))
    return problem.value_and_grad(problem.frame, problem.camera, problem.head, mask)[1]


def directions(tree, seed):
    leaves, form = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return form.unflatten([jnp.asarray(rng.normal(size=np.shape(leaf)), jnp.float64) for leaf in leaves])


def only(tree, name, seed):
    """A random direction in one field of the parameters, nothing elsewhere."""
    nothing = jax.tree.map(jnp.zeros_like, tree)
    return nothing.replace(**{name: directions(getattr(tree, name), seed)})


@pytest.mark.parametrize("name", [*REACHED, "materials", "background"])
def test_derivatives_of_parameters_are_difference_quotients(problem, name):
    change = only(problem.frame, name, 1), jax.tree.map(jnp.zeros_like, problem.camera)
    derivative, quotient, kept = problem.compare(change)
    assert kept > 0.98
    assert abs(quotient) > 1e-3
    np.testing.assert_allclose(derivative, quotient, rtol=2e-5)


def test_derivatives_of_the_camera_are_difference_quotients(problem):
    change = jax.tree.map(jnp.zeros_like, problem.frame), directions(problem.camera, 2)
    derivative, quotient, kept = problem.compare(change)
    assert kept > 0.98
    np.testing.assert_allclose(derivative, quotient, rtol=2e-5)


def test_gradients_reach_everything_and_are_finite(gradient):
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    frame, camera = gradient
    for name in REACHED:
        assert np.abs(getattr(frame, name)).max() > 0, name
    for leaf in [*jax.tree.leaves(frame.materials), *jax.tree.leaves(camera)]:
        assert np.abs(leaf).max() > 0


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_finite_at_extremes(problem, seed):
    """Closed eyes, lit from behind, the head half out of the picture, the camera close."""
    frame = any_frame(seed, extreme=1.0 + seed / 2).replace(
        expression=jnp.full(52, float(seed % 2)), light=jnp.full((9, 3), -0.2 * seed)
    )
    camera = Camera(half_field=15.5 - 3 * seed, distance=75.0 - 10 * seed)
    mask = jnp.ones((SIZE, SIZE))
    (value, _), gradient = problem.value_and_grad(*doubled((frame, camera)), problem.head, mask)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
