"""The VGG trunks behind perceptual losses (Simonyan & Zisserman, 2015), in torchvision's numbering.

"vgg16" and "vgg19" are trained on ImageNet; "vggface" is the first of them trained to tell people apart (Parkhi,
Vedaldi and Zisserman, 2015), and sees pictures as that network did; "vggface11" is the same of the configuration with
eleven layers ("A"), whose convolutions, counted through, are conv1_1, conv2_1, conv3_1, conv3_2, ... conv5_2.

Weights come from a file that the user has (see ``reenax.interop.vgg``) or, without one, from random
features: convolutions drawn with He's gain, which keeps the activations alive through all layers.
Differences of random features are a usable reconstruction loss, but not the published one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from reenax.core.types import Collections, FrozenNetwork

CONVS = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "vggface": (2, 2, 3, 3, 3),
    "vggface11": (1, 1, 2, 2, 2),
}
OF_FACES = ("vggface", "vggface11")
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures in [0, 1]
FACES = ((129.186 / 255, 104.762 / 255, 93.594 / 255), (1 / 255, 1 / 255, 1 / 255))
FIRST_OF_STAGE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def layer_names(arch: str) -> tuple[str, ...]:
    """The layers of a trunk in order: the position of a name is its index in torchvision's ``features``."""
    if arch not in CONVS:
        raise ValueError(f"there is no trunk {arch!r}; there are: {', '.join(CONVS)}")
    names: list[str] = []
    for stage, convs in enumerate(CONVS[arch], start=1):
        for i in range(1, convs + 1):
            names += [f"conv{stage}_{i}", f"relu{stage}_{i}"]
        names.append(f"pool{stage}")
    return tuple(names)


class VGG(nn.Module):
    """A VGG trunk up to the last layer that is asked for.

    Attributes:
        taps: names of the layers whose outputs are wanted: ``conv3_2``, ``relu3_2`` or ``pool3``.
        arch: one of ``CONVS``.
        dtype: what to compute in; that of the params when None.
    """

    taps: tuple[str, ...] = FIRST_OF_STAGE
    arch: str = "vgg19"
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """Features of pictures in [0, 1]; the mean and deviation of the trunk's training are taken off inside.

        Raises:
            ValueError: a tap that the trunk does not have, or a picture too small to reach one.
        """
        names = layer_names(self.arch)
        for tap in self.taps:
            if tap not in names:
                raise ValueError(f"{self.arch} has no layer {tap!r}; its layers are: {', '.join(names)}")
        last = max(names.index(tap) for tap in self.taps)
        mean, deviation = (jnp.asarray(x, image.dtype) for x in (FACES if self.arch in OF_FACES else (MEAN, STD)))
        x = (image - mean[None, None, None]) / deviation[None, None, None]
        features: dict[str, Array] = {}
        for name in names[: last + 1]:
            if name.startswith("conv"):
                width = WIDTHS[int(name[4]) - 1]
                x = nn.Conv(
                    width, (3, 3), padding=1, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=name
                )(x)
            elif name.startswith("relu"):
                x = nn.relu(x)
            elif min(x.shape[1:3]) < 2:
                raise ValueError(f"a picture of {image.shape[1]}x{image.shape[2]} is too small for {self.taps[-1]}")
            else:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            features[name] = x
        return {tap: features[tap] for tap in self.taps}


def vgg_features(
    variables: Collections, taps: tuple[str, ...] = FIRST_OF_STAGE, arch: str = "vgg19", dtype: Any = None
) -> Callable[[Float[Array, "b h w 3"]], Mapping[str, Float[Array, "b _ _ _"]]]:
    """A trunk with its weights, as perceptual losses take it: pictures in [0, 1] to named features."""

    def features(image: Array) -> Mapping[str, Array]:
        seen: Any = VGG(taps, arch, dtype).apply(variables, image)
        return seen

    return features


def frozen_vgg(arch: str = "vgg19") -> FrozenNetwork:
    """A whole trunk as a frozen network of a method.

    Its ``init`` gives the random features: He-normal kernels, zero biases. The documented variant is the draw of
    ``jax.random.key(0)``.
    """

    def init(rng: Key[Array, ""]) -> Collections:
        return VGG(layer_names(arch), arch).init(rng, jnp.zeros((1, 32, 32, 3)))

    return FrozenNetwork(kind=arch, init=init)
