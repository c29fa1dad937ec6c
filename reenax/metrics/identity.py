"""Identity metrics on the embeddings of a face recognition network, which are inputs here.

Faces are found, aligned and embedded outside. Frames on which that fails are left out and counted by the caller.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.errors import UserError


def csim(a: Float[Array, "b d"], b: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Cosine similarity of embeddings in [-1, 1] (CSIM; Zakharov et al., 2019). Zero vectors give 0."""
    norms = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    return jnp.sum(a * b, axis=-1) / jnp.maximum(norms, 1e-8)


def aed(output: Float[Array, "b d"], truth: Float[Array, "b d"], *, squared: bool = True) -> Float[Array, " b"]:
    """Average embedding distance of frames (AED; Monkey-Net, First Order Motion), on unit vectors as a rule.

    Args:
        output, truth: embeddings of the made frame and the true one.
        squared: True for the sum of squared differences, which the published script computes and tables are of; False
            for the Euclidean distance, of which the papers speak.
    """
    total = jnp.sum((output - truth) ** 2, axis=-1)
    return total if squared else jnp.sqrt(total)


def identity_error(
    descriptors: Float[Array, "people people frames d"], truth: Float[Array, "people d"]
) -> Float[Array, " people"]:
    """One minus the similarity of a person to pictures of them driven by all others (I_T; Latent Pose Descriptors).

    The mean over people is the published number.

    Args:
        descriptors: unit vectors of the output by person, driver and frame; a person driven by themselves is skipped.
        truth: every person's unit vector, the mean over true frames.

    Raises:
        UserError: there is only one person.
    """
    people, _, frames, _ = descriptors.shape
    if people < 2:
        raise UserError("the identity error needs two people at least: one is driven by the other")
    similar = jnp.einsum("kijd,kd->kij", descriptors, truth, precision="highest").sum(axis=-1)
    others = similar.sum(axis=-1) - jnp.diagonal(similar)
    return 1 - others / ((people - 1) * frames)
