"""Everything that makes one picture of the synthetic head, as one tree that can be batched and differentiated."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import PyTree

from reenax.geometry.light import studio_light


class Materials(struct.PyTreeNode):
    """What a person is coloured by, float32. Colours are linear RGB in [0, 1].

    Attributes:
        skin, hair, iris, lip, cloth: colours, [3] each.
        blush: strength of the cheeks' colour, [], 0 to about 1.2.
        stubble: strength of the beard's shade, [], 0 to about 0.8.
        brow_thickness: [], 1 is the usual, about 0.7 to 1.3.
        lash: strength of the lash line, [], 0 to 1.
        wave_frequencies: [6 3], of six waves of the skin's tone, radians per centimetre of canonical coordinates.
        wave_phases: [6], radians.
        wave_weights: [6], relative amplitudes, about 0.02.
    """

    skin: PyTree  # a tree of the same form holds axes, shapes or gradients, hence no array types
    hair: PyTree
    iris: PyTree
    lip: PyTree
    cloth: PyTree
    blush: PyTree
    stubble: PyTree
    brow_thickness: PyTree
    lash: PyTree
    wave_frequencies: PyTree
    wave_phases: PyTree
    wave_weights: PyTree


class Parameters(struct.PyTreeNode):
    """One frame, float32; or frames that share leading axes, to be used under ``jax.vmap``.

    Attributes:
        identity: [80], coefficients of the identity fields, N(0, 1).
        expression: [52], weights of the ARKit shapes in the order of `names.EXPRESSIONS`, 0 to 1.
        rotation: [3], (pitch, yaw, roll) of the head in radians: positive pitch looks down, positive yaw to +x.
        translation: [3], of the head, centimetres.
        gaze: [2 2], (pitch, yaw) of the eyes in radians, the eye at x > 0 first: positive pitch looks up, yaw to +x.
        light: [9 3], spherical harmonics per colour (see `reenax.geometry.light`).
        key_light: [3], the unit direction towards the light whose reflection shines on eyes and skin.
        materials: colours.
        background: [2 3], linear RGB at the top and the bottom of the picture.
        background_phase: [], of the wave over the background, radians.
    """

    identity: PyTree
    expression: PyTree
    rotation: PyTree
    translation: PyTree
    gaze: PyTree
    light: PyTree
    key_light: PyTree
    materials: Materials
    background: PyTree
    background_phase: PyTree


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
