"""The networks that read landmarks alone: the unified landmark converter and its two discriminators (section 3.2).

They are a twentieth of the method and always compute in the params' type: coordinates need all of its digits.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

SLOPE = 0.2  # of the leaky ReLUs
XAVIER = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")  # Flax's own xavier_normal cuts the normal's tails


@dataclasses.dataclass(frozen=True)
class ConverterParams:
    """Sizes of the converter and of its discriminators; the defaults are the published ones.

    Attributes:
        width: of the dense layers; the last ones are narrower or wider by fixed factors.
        depth: dense layers of each of the converter's towers.
        centred: whether dense layers see landmarks less a mean face, that of the batch with which the networks were
            made. Not published: people differ by several times as much as expressions move them, and all of that is
            little beside the coordinates themselves, which short trainings do not get past.
    """

    width: int = 512
    depth: int = 6
    centred: bool = False


class Converted(NamedTuple):
    """What the converter makes.

    Attributes:
        landmarks: one person's face with another's expression.
        offset: by how much they are away from the first person's neutral face.
    """

    landmarks: Float[Array, "b p 2"]
    offset: Float[Array, "b p 2"]


class Perceptron(nn.Module):
    """Dense layers with leaky ReLUs between them and none at the end.

    Attributes:
        widths: of the layers.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n"]) -> Float[Array, "b {self.widths[-1]}"]:
        for i, width in enumerate(self.widths):
            x = nn.leaky_relu(x, SLOPE) if i else x
            x = nn.Dense(width, kernel_init=XAVIER, precision="highest", name=f"dense_{i}")(x)
        return x


class Flat(nn.Module):
    """Landmarks as the dense layers see them: x0, y0, x1, y1, ...

    Attributes:
        centred: see :class:`ConverterParams`; the mean face is the collection "statistics".
    """

    centred: bool

    @nn.compact
    def __call__(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b n"]:
        if self.centred:
            mean = self.variable("statistics", "mean", lambda: jnp.mean(landmarks, axis=0)).value
            landmarks = landmarks - mean[None]
        return landmarks.reshape(landmarks.shape[0], -1)


class LandmarkConverter(nn.Module):
    """ULC: puts the expression of any face into a neutral one, by an offset to its landmarks.

    Attributes:
        params: sizes.
    """

    params: ConverterParams = ConverterParams()

    @nn.compact
    def __call__(self, expressive: Float[Array, "b p 2"], neutral: Float[Array, "b p 2"]) -> Converted:
        """The face of ``neutral`` with the expression of ``expressive``, in the units of both."""
        width, depth = self.params.width, self.params.depth
        tower, flat = (width,) * depth, Flat(self.params.centred, name="flat")
        codes = [
            Perceptron(tower, name=name)(flat(landmarks))
            for name, landmarks in (("neutral", neutral), ("expression", expressive))
        ]
        widths = (2 * width, width, 2 * neutral.shape[1])
        both = jnp.concatenate(codes[::-1], axis=-1)
        offset = Perceptron(widths, name="fusion")(both).reshape(neutral.shape)
        return Converted(neutral + offset, offset)


class RealismDiscriminator(nn.Module):
    """D_TF: whether landmarks are of a true face.

    Attributes:
        params: sizes.
    """

    params: ConverterParams = ConverterParams()

    @nn.compact
    def __call__(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b 1"]:
        """A score without bounds, 1 for true ones."""
        width = self.params.width
        return Perceptron((width,) * 4 + (width // 8, 1), name="layers")(
            Flat(self.params.centred, name="flat")(landmarks)
        )


class IdentityDiscriminator(nn.Module):
    """D_S: whether two faces with different expressions are of one person.

    Attributes:
        params: sizes.
    """

    params: ConverterParams = ConverterParams()

    @nn.compact
    def __call__(self, first: Float[Array, "b p 2"], second: Float[Array, "b p 2"]) -> Float[Array, "b 1"]:
        """A score without bounds, 1 for one person."""
        width = self.params.width
        tower, flat = (width, width, width // 8), Flat(self.params.centred, name="flat")
        codes = [Perceptron(tower, name=f"tower_{i}")(flat(x)) for i, x in enumerate((first, second))]
        return Perceptron((width // 4, width // 16, 1), name="fusion")(jnp.concatenate(codes, axis=-1))
