"""The first stage: boundaries as they are drawn from landmarks, and landmarks as they are found in boundaries."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.rng import stream
from reenax.core.types import Batch, LossOut, Variables
from reenax.methods.reenactgan.augmentation import AffineParams, random_affine, warp_landmarks, warp_pictures
from reenax.methods.reenactgan.boundaries import boundary_maps, to_pixels
from reenax.methods.reenactgan.encoder import BoundaryEncoder
from reenax.methods.reenactgan.shape import Aligner, moved_shape


def frames_of(batch: Batch) -> Float[Array, "b n h w 3"]:
    """The pictures of a batch, the target's first: "frames" of several people, or "source", one picture each."""
    return batch["frames"] if "frames" in batch else batch["source"][:, None]


def landmarks_of(batch: Batch) -> Float[Array, "b n 68 2"]:
    """The landmarks of the same pictures.

    Raises:
        UserError: the batch has none of this name.
    """
    if "landmarks" not in batch:
        raise UserError(
            "the encoder's stage learns from landmarks: set config.data.labels=('landmarks',) and take "
            "config.data.sampler=labelled or people"
        )
    landmarks = batch["landmarks"]
    return landmarks if landmarks.ndim == 4 else landmarks[:, None]


def draw(
    encoder: BoundaryEncoder, variables: Variables, frames: Float[Array, "b n h w 3"], *, train: bool
) -> tuple[Float[Array, "b n m m 15"], dict[str, Any]]:
    """The boundary maps of several people, which nothing flows through, and the encoder's moved statistics.

    Args:
        encoder: the network.
        variables: of all networks.
        frames: in [-1, 1].
        train: every person's pictures are normalised by their own statistics, one person after the other.
    """
    mine = variables["encoder"]
    if not train:
        flat = frames.reshape(-1, *frames.shape[2:])
        drawn: Any = encoder.apply(mine, flat, train=False)
        return lax.stop_gradient(drawn[-1].reshape(*frames.shape[:2], *drawn[-1].shape[1:])), {}

    def one(statistics: Any, pictures: Array) -> tuple[Any, Array]:
        drawn, moved = encoder.apply({**mine, "batch_stats": statistics}, pictures, train=True, mutable=["batch_stats"])
        return moved["batch_stats"], drawn[-1]

    statistics, maps = lax.scan(one, mine["batch_stats"], jnp.moveaxis(frames, 1, 0))
    return lax.stop_gradient(jnp.moveaxis(maps, 0, 1)), {"encoder": {"batch_stats": lax.stop_gradient(statistics)}}


@dataclasses.dataclass(frozen=True)
class EncoderGame:
    """Encoder and aligner with their loss.

    Attributes:
        encoder, aligner: the networks.
        affine: random warps of the pictures.
        sigma: deviation of the drawn boundaries, in pixels of the maps.
        align: weight of the aligner's error.
    """

    encoder: BoundaryEncoder
    aligner: Aligner
    affine: AffineParams
    sigma: float
    align: float

    def placed(self, landmarks: Float[Array, "b 68 2"], size: int) -> Float[Array, "b 68 2"]:
        """Landmarks of pictures of a size in pixels of their maps."""
        return to_pixels(landmarks, size, self.encoder.params.map_size(size))

    def rendered(self, landmarks: Float[Array, "b 68 2"], size: int) -> Float[Array, "b m m 15"]:
        """The maps that the encoder should draw of pictures of a size."""
        return boundary_maps(self.placed(landmarks, size), self.encoder.params.map_size(size), self.sigma)

    def loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean squared error of every stack's maps, and the aligner's mean absolute error in pixels of the maps.

        The aligner sees drawn maps and, detached, the encoder's. The statistics of the shape move with the landmarks.
        """
        frames, landmarks = (x.reshape(-1, *x.shape[2:]) for x in (frames_of(batch), landmarks_of(batch)))
        size = frames.shape[1]
        affine = random_affine(stream(rng, "affine"), frames.shape[0], size, self.affine)
        frames = warp_pictures(frames, affine, nearest=self.affine.nearest)
        landmarks = warp_landmarks(landmarks, affine, size)
        points, wanted = self.placed(landmarks, size), self.rendered(landmarks, size)
        drawn, moved = self.encoder.apply(variables["encoder"], frames, train=True, mutable=["batch_stats"])
        assert isinstance(drawn, list)
        terms = {f"maps_{i}": jnp.mean((maps - wanted) ** 2) for i, maps in enumerate(drawn)}
        seen = jnp.concatenate([wanted, lax.stop_gradient(drawn[-1])])
        found, learned = self.aligner.apply(variables["aligner"], seen, train=True, mutable=["batch_stats"])
        assert isinstance(found, jax.Array)
        terms["align"] = self.align * jnp.mean(jnp.abs(found - jnp.concatenate([points, points])))
        shape = moved_shape(variables["aligner"]["shape"], points, self.aligner.params)
        mutated = {"encoder": dict(moved), "aligner": {**learned, "shape": shape}}
        return LossOut(sum(terms.values(), jnp.zeros(())), terms, mutated)
