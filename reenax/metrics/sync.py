"""Lip synchronisation by SyncNet (Chung and Zisserman, 2016): LSE-D and LSE-C (Wav2Lip, Prajwal et al., 2020).

Faces are tracked and cropped to 224 x 224 outside, at 25 frames per second; sound is 13 MFCC of 16 kHz every 10 ms, so
that four columns belong to a frame. The weights are arguments: :func:`reenax.interop.syncnet.load`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from reenax.core.errors import UserError
from reenax.core.types import Collections, FrozenNetwork
from reenax.nn.norm import BatchNorm

FRAMES = 5  # of a window
COLUMNS = 20  # of MFCC, for as long
COEFFICIENTS = 13
COLUMNS_PER_FRAME = 4
SIDE = 224
MAX_SHIFT = 15


class ConvNorm(nn.Module):
    """Convolution, batch norm with its running statistics, ReLU.

    Attributes:
        features: output channels.
        kernel: height and width.
        padding: zeros above and below, left and right.
        stride: step of the kernel.
    """

    features: int
    kernel: tuple[int, int] = (3, 3)
    padding: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j {self.features}"]:
        init = nn.initializers.he_normal()
        x = nn.Conv(self.features, self.kernel, self.stride, self.padding, kernel_init=init, name="conv")(x)
        return nn.relu(BatchNorm(name="bn")(x, train=False))


class Head(nn.Module):
    """The two dense layers behind either network, on a map of one pixel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b 1 1 512"]) -> Float[Array, "b 1024"]:
        init = nn.initializers.he_normal()
        x = nn.relu(BatchNorm(name="bn")(nn.Dense(512, kernel_init=init, name="hidden")(x), train=False))
        return nn.Dense(1024, kernel_init=init, name="out")(x)[:, 0, 0]


class AudioNet(nn.Module):
    """The embedding of 0.2 s of sound."""

    @nn.compact
    def __call__(self, mfcc: Float[Array, "b 13 20"]) -> Float[Array, "b 1024"]:
        x = ConvNorm(64, name="conv1")(mfcc[..., None])
        x = nn.max_pool(ConvNorm(192, name="conv2")(x), (3, 3), (1, 2))
        x = ConvNorm(384, name="conv3")(x)
        x = ConvNorm(256, name="conv4")(x)
        x = nn.max_pool(ConvNorm(256, name="conv5")(x), (3, 3), (2, 2))
        return Head(name="head")(ConvNorm(512, (5, 4), 0, name="conv6")(x))


class LipNet(nn.Module):
    """The embedding of five frames.

    The published network is three-dimensional, but its first kernel is as long as the window: what follows has no time
    left. So the frames are channels here, which gives the same sums.
    """

    @nn.compact
    def __call__(self, frames: Float[Array, "b 5 224 224 3"]) -> tuple[Float[Array, "b 1024"], Float[Array, "b 512"]]:
        """The embedding, and the features before the dense layers, of RGB frames in [-1, 1]."""
        # the published network was trained on BGR in [0, 255]
        pixels = (frames[..., ::-1] + 1) * 127.5
        x = jnp.moveaxis(pixels, 1, 3)
        x = x.reshape(*x.shape[:3], -1)
        x = nn.max_pool(ConvNorm(96, (7, 7), 0, 2, name="conv1")(x), (3, 3), (2, 2))
        x = ConvNorm(256, (5, 5), 1, 2, name="conv2")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]
        for i in (3, 4, 5):
            x = ConvNorm(256, name=f"conv{i}")(x)
        x = ConvNorm(512, (6, 6), 0, name="conv6")(nn.max_pool(x, (3, 3), (2, 2)))
        return Head(name="head")(x), x[:, 0, 0]


class SyncNet(nn.Module):
    """Both networks; embeddings of the same moment lie close together. In full float32 precision everywhere."""

    def setup(self) -> None:
        self.audio_net = AudioNet()
        self.lip_net = LipNet()

    def __call__(
        self, frames: Float[Array, "b 5 224 224 3"], mfcc: Float[Array, "b 13 20"]
    ) -> tuple[Float[Array, "b 1024"], Float[Array, "b 1024"]]:
        """The embeddings of five frames each, RGB in [-1, 1], and of the sound beginning with the first of them."""
        return self.lips(frames)[0], self.audio(mfcc)

    def lips(self, frames: Float[Array, "b 5 224 224 3"]) -> tuple[Float[Array, "b 1024"], Float[Array, "b 512"]]:
        """The embedding of frames, and the features before the dense layers."""
        with jax.default_matmul_precision("highest"):
            return self.lip_net(frames)

    def audio(self, mfcc: Float[Array, "b 13 20"]) -> Float[Array, "b 1024"]:
        """The embedding of sound."""
        with jax.default_matmul_precision("highest"):
            return self.audio_net(mfcc)


def frozen_syncnet() -> FrozenNetwork:
    """The network as a frozen one, with random weights (He-normal kernels) as its ``init``."""

    def init(rng: Key[Array, ""]) -> Collections:
        return SyncNet().init(rng, jnp.zeros((1, FRAMES, SIDE, SIDE, 3)), jnp.zeros((1, COEFFICIENTS, COLUMNS)))

    return FrozenNetwork(kind="syncnet", init=init)


def embed(
    variables: Collections, frames: Float[Array, "t 224 224 3"], mfcc: Float[Array, "n 13"], *, batch_size: int = 16
) -> tuple[Float[Array, "w 1024"], Float[Array, "w 1024"]]:
    """The embeddings of every window of a clip: frames i to i + 4, and columns 4 i to 4 i + 19.

    Args:
        variables: weights of :class:`SyncNet`.
        frames: RGB in [-1, 1] at 25 frames per second.
        mfcc: 100 columns per second.
        batch_size: windows worked on together.

    Returns:
        Those of the lips and those of the sound, for as many windows as both have.

    Raises:
        UserError: the clip is too short for a single window.
    """
    count = min(len(frames) - FRAMES, (len(mfcc) - COLUMNS) // COLUMNS_PER_FRAME) + 1
    if count < 1:
        raise UserError(
            f"SyncNet needs {FRAMES} frames and {COLUMNS} columns of MFCC at least, got {len(frames)} and {len(mfcc)}"
        )
    lips, sounds = [], []
    for begin in range(0, count, batch_size):
        # the last batch is filled up, so that one compiled program serves all
        first = jnp.minimum(begin + jnp.arange(batch_size), count - 1)
        seen, heard = _embed(variables, frames, mfcc, first)
        lips.append(seen[: count - begin])
        sounds.append(heard[: count - begin])
    return jnp.concatenate(lips), jnp.concatenate(sounds)


@jax.jit
def _embed(
    variables: Collections, frames: Float[Array, "t 224 224 3"], mfcc: Float[Array, "n 13"], first: Int[Array, " b"]
) -> tuple[Float[Array, "b 1024"], Float[Array, "b 1024"]]:
    seen = frames[first[:, None] + jnp.arange(FRAMES)[None, :]]
    heard = mfcc[COLUMNS_PER_FRAME * first[:, None] + jnp.arange(COLUMNS)[None, :]]
    embeddings: Any = SyncNet().apply(variables, seen, jnp.moveaxis(heard, 1, 2))
    return embeddings


class SyncScore(NamedTuple):
    """How well lips and sound of a clip fit.

    Attributes:
        distance: LSE-D, the mean distance at the best shift; smaller is better.
        confidence: LSE-C, by how much the median over shifts is worse; greater is better.
        offset: frames by which the sound is early; negative where it is late.
        distances: the mean distance at every shift from -15 to 15 frames of the sound.
    """

    distance: Float[Array, ""]
    confidence: Float[Array, ""]
    offset: Int[Array, ""]
    distances: Float[Array, " shifts"]


def lse(lips: Float[Array, "t d"], audio: Float[Array, "t d"], *, max_shift: int = MAX_SHIFT) -> SyncScore:
    """The lip sync errors of a clip from the embeddings of :func:`embed`.

    Beyond the ends of the clip the sound's embeddings are zeros, and count, as in the published script.

    Args:
        lips, audio: embeddings of every frame.
        max_shift: the largest shift that is tried, in frames.
    """
    padded = jnp.pad(audio, ((max_shift, max_shift), (0, 0)))

    def at(shift: Int[Array, ""]) -> Float[Array, ""]:
        moved = jax.lax.dynamic_slice_in_dim(padded, shift, len(audio))
        # the small number is PyTorch's pairwise distance's
        return jnp.sqrt(jnp.sum((lips - moved + 1e-6) ** 2, axis=-1)).mean()

    distances = jax.lax.map(at, jnp.arange(2 * max_shift + 1))
    best = jnp.argmin(distances)
    return SyncScore(distances[best], jnp.median(distances) - distances[best], max_shift - best, distances)
