"""A video from one picture: a recurrent network that goes on with keypoints (the paper's image-to-video experiment).

It is trained after everything else, on windows of frames whose keypoints the trained detector finds. Its input is the
first frame's keypoints and then zeros; its output the keypoints of every frame of the window, the first among them.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.types import Batch, LossOut, Player, Source, Variables
from reenax.core.updates import Gradient
from reenax.geometry.grids import matmul_2x2
from reenax.methods.monkey_net.embedding import Keypoints
from reenax.methods.monkey_net.networks import KeypointDetector
from reenax.methods.monkey_net.transfer import KeypointAnimator, folded
from reenax.nn.conv import uniform_fan_in


@dataclasses.dataclass(frozen=True)
class PredictorParams:
    """The recurrent network and what it is asked.

    Attributes:
        features: width of its state.
        initial: frames of which it is given the keypoints.
        predict_variance: whether the covariances change too; otherwise those of the last given frame are kept. (The
            published setting of this name does the opposite of what its comment says.)
    """

    features: int = 1024
    initial: int = 1
    predict_variance: bool = True


class GRU(nn.Module):
    """One layer of gated recurrent units as PyTorch has them: gates r, z, n, and a bias on either side of r.

    Attributes:
        features: width of the state, which begins as zeros.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b t {self.features}"]:
        init = uniform_fan_in(self.features)
        dense = functools.partial(nn.Dense, 3 * self.features, kernel_init=init, bias_init=init)
        seen = jnp.swapaxes(dense(name="ih")(x), 0, 1)
        state = jnp.zeros((x.shape[0], self.features), seen.dtype)
        recurrent = nn.Dense(3 * self.features, kernel_init=init, bias_init=init, name="hh")

        def step(layer: nn.Module, h: Array, now: Array) -> tuple[Array, Array]:
            held = layer(h)  # pyright: ignore[reportCallIssue]
            (r_in, z_in, n_in), (r_held, z_held, n_held) = (jnp.split(v, 3, axis=-1) for v in (now, held))
            r, z = nn.sigmoid(r_in + r_held), nn.sigmoid(z_in + z_held)
            h = (1 - z) * jnp.tanh(n_in + r * n_held) + z * h
            return h, h

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, states = scan(recurrent, state, seen)
        return jnp.swapaxes(states, 0, 1)


class KeypointPredictor(nn.Module):
    """Keypoints of all frames from those of the first.

    Attributes:
        features: width of the state.
    """

    features: int = 1024

    @nn.compact
    def __call__(
        self, mean: Float[Array, "b t k 2"], covariance: Float[Array, "b t k 2 2"]
    ) -> tuple[Float[Array, "b t k 2"], Float[Array, "b t k 2 2"]]:
        """Means in [-1, 1] and covariances; zeros where they are not known."""
        batch, length, count = mean.shape[:3]
        flat = [x.reshape(batch, length, -1) for x in (mean, covariance)]
        states = GRU(self.features, name="rnn")(jnp.concatenate(flat, axis=-1))
        init = uniform_fan_in(self.features)
        made = nn.Dense(6 * count, kernel_init=init, bias_init=init, name="linear")(states)
        made = made.reshape(batch, length, count, 6)
        root = made[..., 2:].reshape(batch, length, count, 2, 2)
        return jnp.tanh(made[..., :2]), matmul_2x2(jnp.swapaxes(root, -1, -2), root)


def go_on(
    predictor: KeypointPredictor, params: PredictorParams, variables: Variables, given: Keypoints, length: int
) -> Keypoints:
    """Keypoints of ``length`` frames in all; leaves of ``given`` and of the result are [b, t, k, ...].

    Args:
        predictor: the network.
        params: how many frames of ``given`` it may see.
        variables: of "predictor".
        given: keypoints of at least the initial frames; later ones are not looked at.
        length: frames to make, those that are given among them.
    """
    known = params.initial

    def shown(x: Array) -> Array:
        return jnp.pad(x[:, :known], ((0, 0), (0, length - known), *((0, 0),) * (x.ndim - 2)))

    made: Any = predictor.apply(variables["predictor"], *map(shown, given))
    mean, covariance = made
    if not params.predict_variance:
        covariance = jnp.broadcast_to(given.covariance[:, known - 1 : known], covariance.shape)
    return Keypoints(mean, covariance)


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The predictor's training: one player, while the detector stays as it is.

    Attributes:
        detector: finds the keypoints that are to be predicted.
        predictor: the network.
        params: what it is asked.
    """

    detector: KeypointDetector
    predictor: KeypointPredictor
    params: PredictorParams

    def keypoints(self, variables: Variables, frames: Float[Array, "b t h w 3"]) -> Keypoints:
        """Those of every frame, pictures in [-1, 1]; leaves are [b, t, k, ...]."""
        flat = to_unit(frames.reshape(-1, *frames.shape[2:]))
        found: Any = self.detector.apply(variables["kp_detector"], flat, train=False)
        return jax.tree.map(lambda x: x.reshape(*frames.shape[:2], *x.shape[1:]), found)

    def loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean absolute error of means and of covariances over all frames of the windows "frames"."""
        wanted = jax.lax.stop_gradient(self.keypoints(variables, batch["frames"]))
        made = go_on(self.predictor, self.params, variables, wanted, batch["frames"].shape[1])
        terms = {"mean": jnp.mean(jnp.abs(made.mean - wanted.mean))}
        if self.params.predict_variance:
            terms["covariance"] = jnp.mean(jnp.abs(made.covariance - wanted.covariance))
        return LossOut(jnp.sum(jnp.stack(list(terms.values()))), terms)

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """The predictor alone.

        Raises:
            UserError: its optimiser is missing.
        """
        if "predictor" not in optim:
            raise UserError('config.optim.predictor is missing; the stage "prediction" of monkey_net needs it')
        return (Player("predictor", ("predictor",), Gradient(self.loss, optim["predictor"], accumulate)),)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 5))
def _begin(
    animator: KeypointAnimator,
    predictor: KeypointPredictor,
    params: PredictorParams,
    variables: Variables,
    source: Array,
    length: int,
) -> tuple[PyTree, Keypoints]:
    prepared = animator.prepare(variables, source[:1])
    given = animator.read(variables, prepared, source[: params.initial])
    made = go_on(predictor, params, variables, jax.tree.map(lambda x: x[None], given), length)
    return prepared, jax.tree.map(lambda x: x[0], made)


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    animator: KeypointAnimator, variables: Variables, prepared: PyTree, motion: Keypoints, anchor: Keypoints | None
) -> Array:
    return animator.animate(variables, prepared, motion, anchor, jnp.ones(()))


def imagine(
    animator: KeypointAnimator,
    predictor: KeypointPredictor,
    params: PredictorParams,
    variables: Variables,
    source: Source,
    length: int,
    *,
    mode: str = "relative",
    batch_size: int = 8,
) -> Float[Array, "t h w 3"]:
    """A video of ``length`` frames that begins with a picture.

    Args:
        animator: with the generator folded.
        predictor, params: the network and how many pictures it sees.
        variables: of all networks, as trained.
        source: the picture, in [-1, 1]; as many as ``params.initial`` where that is more than one.
        length: number of frames.
        mode: "relative" adds what the predicted keypoints change since the first frame to the picture's own, so that
            the video begins with the picture itself; "absolute" takes them as predicted, as published.
        batch_size: frames made together.

    Returns:
        Pictures in [-1, 1].

    Raises:
        UserError: an unknown mode, too few pictures, or a video no longer than they are.
    """
    if mode not in ("relative", "absolute"):
        raise UserError(f"mode must be relative or absolute, got {mode!r}")
    if source.frames.shape[0] < params.initial or length <= params.initial:
        raise UserError(
            f"the predictor goes on from {params.initial} pictures: give as many (got {source.frames.shape[0]}) and "
            f"ask for more frames than that (got {length})"
        )
    variables = folded(variables)
    prepared, motion = _begin(animator, predictor, params, variables, source.frames, length)
    anchor = jax.tree.map(lambda x: x[:1], motion) if mode == "relative" else None
    made = []
    for begin in range(0, length, batch_size):
        # the last batch is filled up with its last frame, so that one compiled program serves all
        rows = jnp.minimum(jnp.arange(begin, begin + batch_size), length - 1)
        made.append(_decode(animator, variables, prepared, jax.tree.map(lambda x, r=rows: x[r], motion), anchor))
    return jnp.concatenate(made)[:length]
