"""The AlexNet trunk of torchvision (Krizhevsky, 2014: one tower, no local response norm)."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from reenax.nn.vgg import MEAN, STD

# features, kernel, stride, padding, whether a 3x3 maximum of stride 2 comes before it
CONVS = {
    "conv1": (64, 11, 4, 2, False),
    "conv2": (192, 5, 1, 2, True),
    "conv3": (384, 3, 1, 1, True),
    "conv4": (256, 3, 1, 1, False),
    "conv5": (256, 3, 1, 1, False),
}
TAPS = ("relu1", "relu2", "relu3", "relu4", "relu5")
SMALLEST = 31


class AlexNet(nn.Module):
    """All five convolutions, each followed by a ReLU; weights are drawn with He's gain."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """The five rectified maps of pictures in [0, 1]; ImageNet's mean and deviation are taken off inside.

        Raises:
            ValueError: a side below 31 pixels, of which nothing would be left.
        """
        if min(image.shape[1:3]) < SMALLEST:
            raise ValueError(f"AlexNet needs pictures of {SMALLEST}x{SMALLEST} at least, got {image.shape[1:3]}")
        x = (image - jnp.asarray(MEAN, image.dtype)[None, None, None]) / jnp.asarray(STD, image.dtype)[None, None, None]
        taps: dict[str, Array] = {}
        for tap, (name, (features, kernel, stride, padding, pooled)) in zip(TAPS, CONVS.items(), strict=True):
            if pooled:
                x = nn.max_pool(x, (3, 3), (2, 2))
            init = nn.initializers.he_normal()
            x = nn.Conv(features, (kernel, kernel), stride, padding=padding, kernel_init=init, name=name)(x)
            taps[tap] = x = nn.relu(x)
        return taps
