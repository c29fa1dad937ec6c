"""LPIPS, the learned perceptual distance of pictures (Zhang et al., 2018), version 0.1.

The weights are arguments. They come from files that the user has (:func:`reenax.interop.lpips.load`); random ones serve
tests and give a distance of its own, never to be compared with a published one.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from reenax.core.errors import UserError
from reenax.core.types import Collections, FrozenNetwork
from reenax.metrics import weights
from reenax.nn import alexnet
from reenax.nn.alexnet import AlexNet
from reenax.nn.squeezenet import SqueezeNet
from reenax.nn.vgg import VGG

VGG_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


class Trunk(NamedTuple):
    """A network, its layers that are compared, and how many features each has."""

    make: Callable[[], nn.Module]
    taps: tuple[str, ...]
    widths: tuple[int, ...]


TRUNKS: Mapping[str, Trunk] = MappingProxyType(
    {
        "alex": Trunk(AlexNet, alexnet.TAPS, (64, 192, 384, 256, 256)),
        "vgg": Trunk(functools.partial(VGG, VGG_TAPS, "vgg16"), VGG_TAPS, (64, 128, 256, 512, 512)),
        "squeeze": Trunk(
            SqueezeNet,
            ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
            (64, 128, 256, 384, 384, 512, 512),
        ),
    }
)


def trunk(net: str) -> Trunk:
    """The network of that name.

    Raises:
        UserError: there is none.
    """
    if net not in TRUNKS:
        raise UserError(f"LPIPS has no network {net!r}; there are: {', '.join(TRUNKS)}")
    return TRUNKS[net]


class LPIPS(nn.Module):
    """Squared differences of normalised features, weighted per channel, the mean over pixels, the sum over layers.

    All products are computed in full float32 precision, on accelerators too.

    Attributes:
        net: "alex", "vgg" or "squeeze".
    """

    net: str = "alex"

    def setup(self) -> None:
        make, taps, widths = trunk(self.net)
        self.taps = taps
        self.trunk = make()
        # the mean over channels where nothing was learned
        self.lins = [self.param(f"lin{i}", nn.initializers.constant(1 / n), (n,)) for i, n in enumerate(widths)]

    def __call__(self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """The distance of pictures in [-1, 1]."""
        return self.layers(a, b).sum(axis=-1)

    def layers(self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Float[Array, "b layers"]:
        """What every layer contributes to the distance."""
        features = self.features(jnp.concatenate([a, b]))
        with jax.default_matmul_precision("highest"):
            return jnp.stack([self._apart(features[t], w) for t, w in zip(self.taps, self.lins, strict=True)], axis=-1)

    def features(self, picture: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """The layers of the trunk for pictures in [-1, 1]."""
        with jax.default_matmul_precision("highest"):
            # the published shift and scale are ImageNet's mean and deviation, which the trunks take off in [0, 1]
            return self.trunk((picture + 1) / 2)

    def _apart(self, features: Float[Array, "b2 h w c"], lin: Float[Array, " c"]) -> Float[Array, " b"]:
        norm = jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True))
        first, second = jnp.split(features / (norm + 1e-10), 2)
        weighted = (first - second) ** 2 * lin[None, None, None]
        return weighted.sum(axis=-1).mean(axis=(1, 2))


def lpips(
    a: Float[Array, "b h w 3"],
    b: Float[Array, "b h w 3"],
    variables: Collections | None = None,
    *,
    net: str = "alex",
    random_weights: bool = False,
) -> Float[Array, " b"]:
    """The perceptual distance of every pair of pictures in [-1, 1].

    Args:
        a, b: pictures; at least 31 x 31 for "alex", 17 x 17 for "squeeze" and 16 x 16 for "vgg".
        variables: the weights, of :func:`reenax.interop.lpips.load`.
        net: "alex", "vgg" or "squeeze"; tables of reenactment report "alex" unless they say otherwise.
        random_weights: draw the weights here when ``variables`` is None. To measure many batches draw them once, with
            :func:`draw_weights`.

    Raises:
        UserError: no weights, or an unknown ``net``.
        ValueError: the pictures are too small.
    """
    trunk(net)
    if variables is None:
        if not random_weights:
            raise UserError(
                f"LPIPS needs weights: load them by reenax.interop.lpips.load({net!r}, trunk=FILE, lins=FILE) from "
                f"torchvision's network and the lpips package's {net}.pth, or ask for random_weights=True"
            )
        variables = draw_weights(net)
    return _distance(variables, a, b, net)


@functools.partial(jax.jit, static_argnames="net")
def _distance(
    variables: Collections, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"], net: str
) -> Float[Array, " b"]:
    distance: Any = LPIPS(net).apply(variables, a, b)
    return distance


def draw_weights(net: str = "alex") -> Collections:
    """Random weights, always the same ones: He-normal kernels, zero biases, equal weights of all channels."""
    drawn = weights.draw(frozen_lpips(net))
    lins = {f"lin{i}": jnp.full((n,), 1 / n) for i, n in enumerate(trunk(net).widths)}
    return {"params": {**drawn["params"], **lins}}


def frozen_lpips(net: str = "alex") -> FrozenNetwork:
    """The whole of LPIPS as a frozen network, with random weights as its ``init``.

    Raises:
        UserError: an unknown ``net``.
    """
    trunk(net)

    def init(rng: Key[Array, ""]) -> Collections:
        picture = jnp.zeros((1, 32, 32, 3))
        return LPIPS(net).init(rng, picture, picture)

    return FrozenNetwork(kind=f"lpips_{net}", init=init)
