"""VGG-M, a network of five large convolutions (Chatfield, Simonyan, Vedaldi and Zisserman, 2014), trained on faces.

"vggmface" is that network trained to tell people apart (Parkhi et al., 2015). It sees pictures as "vggface" does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Key

from reenax.core.types import Collections, FrozenNetwork
from reenax.nn.squeezenet import max_pool_ceil
from reenax.nn.vgg import FACES, OF_FACES, frozen_vgg, layer_names, vgg_features

# name, channels, side of the kernel, stride, zeros around; norm and pool follow where named
CONVS = {"conv1": (96, 7, 2, 0), "conv2": (256, 5, 2, 1), "conv3": (512, 3, 1, 1), "conv4": (512, 3, 1, 1)}
CONVS |= {"conv5": (512, 3, 1, 1)}
LAYERS = ("conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2", "conv3", "relu3", "conv4", "relu4")
LAYERS += ("conv5", "relu5", "pool5")
NEIGHBOURS, OFFSET, ALPHA, BETA = 5, 2.0, 1e-4, 0.75  # of the local response normalisation
SIDE = 224
FACE_NETWORKS = (*OF_FACES, "vggmface")
"""The kinds of networks that were trained to tell people apart."""


def layers_of(kind: str) -> tuple[str, ...]:
    """The layers of one of ``FACE_NETWORKS``, in order.

    Raises:
        ValueError: there is no such network.
    """
    if kind not in FACE_NETWORKS:
        raise ValueError(f"there is no face network {kind!r}; there are: {', '.join(FACE_NETWORKS)}")
    return LAYERS if kind == "vggmface" else layer_names(kind)


def local_response(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """``x / (2 + 1e-4 * sum of the squares of the five nearest channels)^0.75`` (Krizhevsky et al., 2012)."""
    zero = np.zeros((), x.dtype)  # of NumPy: beside a traced one JAX does not see a sum, which has a gradient
    window, around = (1, 1, 1, NEIGHBOURS), ((0, 0), (0, 0), (0, 0), (NEIGHBOURS // 2, NEIGHBOURS // 2))
    squares = lax.reduce_window(x**2, zero, lax.add, window, (1, 1, 1, 1), around)
    return x * (OFFSET + ALPHA * squares) ** -BETA


class VGGM(nn.Module):
    """The convolutions of VGG-M up to the last layer that is asked for.

    Attributes:
        taps: which of ``LAYERS`` are wanted.
        dtype: what to compute in; that of the params when None.
    """

    taps: tuple[str, ...] = LAYERS
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """Features of pictures in [0, 1]; the mean of the training's faces is taken off inside.

        Raises:
            ValueError: a tap that the network does not have, or a picture too small to reach one.
        """
        for tap in self.taps:
            if tap not in LAYERS:
                raise ValueError(f"vggmface has no layer {tap!r}; its layers are: {', '.join(LAYERS)}")
        mean, deviation = (jnp.asarray(x, image.dtype)[None, None, None] for x in FACES)
        x, features = (image - mean) / deviation, {}
        for name in LAYERS[: 1 + max(LAYERS.index(tap) for tap in self.taps)]:
            if name in CONVS:
                channels, side, stride, around = CONVS[name]
                if min(x.shape[1:3]) + 2 * around < side:
                    raise ValueError(f"a picture of {image.shape[1]}x{image.shape[2]} is too small for {name}")
                init = nn.initializers.he_normal()
                sides = (side, side)
                x = nn.Conv(channels, sides, stride, around, kernel_init=init, dtype=self.dtype, name=name)(x)
            elif name.startswith("relu"):
                x = nn.relu(x)
            elif name.startswith("norm"):
                x = local_response(x)
            else:
                x = max_pool_ceil(x)
            features[name] = x
        return {tap: features[tap] for tap in self.taps}


def face_features(
    kind: str, variables: Collections, taps: tuple[str, ...], dtype: Any = None
) -> Callable[[Float[Array, "b h w 3"]], Mapping[str, Float[Array, "b _ _ _"]]]:
    """A face network of ``FACE_NETWORKS`` with its weights: pictures in [0, 1] to named features."""
    if kind != "vggmface":
        return vgg_features(variables, taps, kind, dtype)

    def features(image: Array) -> Mapping[str, Array]:
        seen: Any = VGGM(taps, dtype).apply(variables, image)
        return seen

    return features


def frozen_face_network(kind: str) -> FrozenNetwork:
    """One of ``FACE_NETWORKS`` as a frozen network; its ``init`` gives random features.

    Raises:
        ValueError: there is no such network.
    """
    layers_of(kind)
    if kind != "vggmface":
        return frozen_vgg(kind)

    def init(rng: Key[Array, ""]) -> Collections:
        return VGGM().init(rng, jnp.zeros((1, SIDE, SIDE, 3)))

    return FrozenNetwork(kind=kind, init=init)
