"""Everything that makes one picture of the synthetic head, as one tree of arrays that can be batched and differentiated."""

from typing import no_type_check

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Float

from reenax.geometry.light import studio_light


@no_type_check  # a tree of the same form may hold axes, shapes or gradients
class Materials(struct.PyTreeNode):
    """What a person is coloured by. Colours are linear RGB in [0, 1].

    Attributes:
        skin, hair, iris, lip, cloth: colours.
        blush: strength of the cheeks' colour, 0 to about 1.2.
        stubble: strength of the beard's shade, 0 to about 0.8.
        brow_thickness: 1 is the usual, about 0.7 to 1.3.
        lash: strength of the lash line, 0 to 1.
        wave_frequencies: six waves of the skin's tone, radians per centimetre of canonical coordinates.
        wave_phases: their phases, radians.
        wave_weights: their relative amplitudes, about 0.02.
    """

    skin: Float[ArrayLike, "*b 3"]
    hair: Float[ArrayLike, "*b 3"]
    iris: Float[ArrayLike, "*b 3"]
    lip: Float[ArrayLike, "*b 3"]
    cloth: Float[ArrayLike, "*b 3"]
    blush: Float[ArrayLike, "*b"]
    stubble: Float[ArrayLike, "*b"]
    brow_thickness: Float[ArrayLike, "*b"]
    lash: Float[ArrayLike, "*b"]
    wave_frequencies: Float[ArrayLike, "*b 6 3"]
    wave_phases: Float[ArrayLike, "*b 6"]
    wave_weights: Float[ArrayLike, "*b 6"]


@no_type_check  # likewise
class Parameters(struct.PyTreeNode):
    """One frame, or frames that share leading axes (to be used under ``jax.vmap``).

    Attributes:
        identity: coefficients of the identity fields, N(0, 1).
        expression: weights of the ARKit shapes in the order of `names.EXPRESSIONS`, [0, 1].
        rotation: (pitch, yaw, roll) of the head in radians: positive pitch looks down, positive yaw to +x.
        translation: of the head, centimetres.
        gaze: (pitch, yaw) of the eyes in radians, the eye at x > 0 first: positive pitch looks up, positive yaw to +x.
        light: nine spherical harmonics per colour (see `reenax.geometry.light`).
        key_light: the unit direction towards the light whose reflection shines on eyes and skin.
        materials: colours.
        background: linear RGB at the top and the bottom of the picture.
        background_phase: of the wave over the background, radians.
    """

    identity: Float[ArrayLike, "*b i"]
    expression: Float[ArrayLike, "*b e"]
    rotation: Float[ArrayLike, "*b 3"]
    translation: Float[ArrayLike, "*b 3"]
    gaze: Float[ArrayLike, "*b 2 2"]
    light: Float[ArrayLike, "*b 9 3"]
    key_light: Float[ArrayLike, "*b 3"]
    materials: Materials
    background: Float[ArrayLike, "*b 2 3"]
    background_phase: Float[ArrayLike, "*b"]


def neutral_parameters(identity: int = 80, expression: int = 52) -> Parameters:
    """The mean head at rest in studio light: something to ``replace`` in. Takes the numbers of coefficients."""
    key_light = np.asarray([0.56, 0.42, 0.71], np.float32)
    key_light /= np.linalg.norm(key_light)
    rng = np.random.default_rng(0)
    materials = Materials(
        skin=jnp.asarray([0.58, 0.37, 0.27]),
        hair=jnp.asarray([0.10, 0.05, 0.025]),
        iris=jnp.asarray([0.18, 0.31, 0.52]),
        lip=jnp.asarray([0.52, 0.20, 0.15]),
        cloth=jnp.asarray([0.12, 0.25, 0.42]),
        blush=jnp.float32(0.5),
        stubble=jnp.float32(0.0),
        brow_thickness=jnp.float32(1.0),
        lash=jnp.float32(0.8),
        wave_frequencies=jnp.asarray(rng.normal(0, 0.5, (6, 3)), jnp.float32),
        wave_phases=jnp.asarray(rng.uniform(0, 2 * np.pi, 6), jnp.float32),
        wave_weights=jnp.asarray(rng.normal(0, 0.02, 6), jnp.float32),
    )
    return Parameters(
        identity=jnp.zeros(identity),
        expression=jnp.zeros(expression),
        rotation=jnp.zeros(3),
        translation=jnp.zeros(3),
        gaze=jnp.zeros((2, 2)),
        light=studio_light(jnp.asarray(key_light)),
        key_light=jnp.asarray(key_light),
        materials=materials,
        background=jnp.asarray([[0.30, 0.36, 0.44], [0.14, 0.16, 0.20]]),
        background_phase=jnp.float32(0.0),
    )
