"""The SqueezeNet 1.1 trunk in torchvision's layout (Iandola et al., 2016)."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from reenax.nn.vgg import MEAN, STD

# squeeze, features of each of the two expansions, position in torchvision's `features`
FIRES = {
    "fire2": (16, 64, 3),
    "fire3": (16, 64, 4),
    "fire4": (32, 128, 6),
    "fire5": (32, 128, 7),
    "fire6": (48, 192, 9),
    "fire7": (48, 192, 10),
    "fire8": (64, 256, 11),
    "fire9": (64, 256, 12),
}
POOLED = ("fire2", "fire4", "fire6")  # the modules with a maximum in front
SMALLEST = 17


def max_pool_ceil(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """The maximum of 3x3 at stride 2, with a last window that may reach beyond the edge (PyTorch's ceil mode)."""
    beyond = [(0, -(n - 3) % 2) for n in x.shape[1:3]]
    return nn.max_pool(x, (3, 3), (2, 2), padding=beyond)  # pyright: ignore[reportArgumentType]


class Fire(nn.Module):
    """A 1x1 squeeze, then 1x1 and 3x3 expansions side by side; ReLU after each.

    Attributes:
        squeezed: features of the squeeze.
        expanded: features of each expansion.
    """

    squeezed: int
    expanded: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w 2*{self.expanded}"]:
        init = nn.initializers.he_normal()
        x = nn.relu(nn.Conv(self.squeezed, (1, 1), kernel_init=init, name="squeeze")(x))
        small = nn.Conv(self.expanded, (1, 1), kernel_init=init, name="expand1x1")(x)
        large = nn.Conv(self.expanded, (3, 3), padding=1, kernel_init=init, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([small, large], axis=-1))


class SqueezeNet(nn.Module):
    """One convolution and eight fire modules; weights are drawn with He's gain."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """The outputs of ``relu1`` and ``fire2`` to ``fire9`` for pictures in [0, 1]; ImageNet's mean and deviation
        are taken off inside.

        Raises:
            ValueError: a side below 17 pixels, of which nothing would be left.
        """
        if min(image.shape[1:3]) < SMALLEST:
            raise ValueError(f"SqueezeNet needs pictures of {SMALLEST}x{SMALLEST} at least, got {image.shape[1:3]}")
        x = (image - jnp.asarray(MEAN, image.dtype)[None, None, None]) / jnp.asarray(STD, image.dtype)[None, None, None]
        init = nn.initializers.he_normal()
        x = nn.relu(nn.Conv(64, (3, 3), 2, padding=0, kernel_init=init, name="conv1")(x))
        taps = {"relu1": x}
        for name, (squeezed, expanded, _) in FIRES.items():
            if name in POOLED:
                x = max_pool_ceil(x)
            taps[name] = x = Fire(squeezed, expanded, name=name)(x)
        return taps
