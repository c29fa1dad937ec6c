"""X2Face: A network for controlling face generation using images, audio, and pose codes.

Olivia Wiles, A. Sophia Koepke, Andrew Zisserman. ECCV 2018, arXiv:1807.10550.

    @inproceedings{wiles2018x2face,
      title={X2Face: A network for controlling face generation using images, audio, and pose codes},
      author={Wiles, Olivia and Koepke, A. Sophia and Zisserman, Andrew},
      booktitle={European Conference on Computer Vision},
      year={2018}
    }

An embedding network warps one or several frames of a person into an embedded face, which is roughly frontal and free of
expression. A driving network turns a driving frame into a vector of 128 numbers, and that into a grid that samples the
embedded face. So every pixel of the result is one of the source, moved twice. Linear maps from head poses and from
sound into the space of driving vectors let these drive the same networks, which are not trained again.

What differs from the paper and its code:

- The second stage was never published as code. Its terms are weighted by running ratios through which no gradient
  flows, or by fixed constants; the other person's driving frame is that of the next example of the batch. It is
  another person's where items are people (``data.by_identity``), but now and then where an epoch ends.
- The maps P (poses of vectors), Q (vectors of poses) and R (vectors of sound) are fitted by ridge regression in closed
  form over all that the training has shown, with no learning rate. How the authors fitted them is not published.
  P and Q are fitted to the field ``pose``, R to ``audio``; today only synthetic heads have poses, and speech drives
  with all three maps.
- The 256 features of sound came from a network that is not to be had. Here they are logarithmic mel spectra of the
  same 0.2 s, see `reenax.audio.spectrum`; the number is free. So a published R is not imported, it has to be fitted.
- Motion is taken as it is unless mode "relative" is asked for, which adds differences of driving vectors.
- Speech is heard against its beginning: what is said while the source frame is seen is the beginning of the sound.

Training, both stages in one run, then the maps (FACES is what ``reenax import vggface11`` makes):

    reenax train --config configs/x2face.py:vox256_content --data DATA --run runs/x --config.frozen.vggface11=FACES
    reenax train --config configs/x2face.py:vox256_maps --data DATA --run runs/xm --warm-start runs/x
    reenax animate --run runs/xm --source me.jpg --driving talk.mp4 --out out.mp4

Read it in this order: ``networks``, ``game`` (losses and players), ``maps`` (fitting P and R), ``reenact`` (driving).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.audio.spectrum import SpectrumParams
from reenax.core.errors import UserError
from reenax.core.pictures import from_unit
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.geometry.sampling import grid_sample
from reenax.methods.x2face import reenact
from reenax.methods.x2face.game import ContentParams, Game, LossParams, MapParams, Stages, frames_of
from reenax.methods.x2face.networks import (
    ANGLES,
    Networks,
    SizeParams,
    VectorFromPose,
    driving_network,
    embedding_network,
    linear,
)
from reenax.nn.vgg import frozen_vgg


@dataclasses.dataclass(frozen=True)
class X2Face(Method):
    """The method with its hyper-parameters; the defaults are those of the paper's first stage.

    Attributes:
        size: sizes of the two large networks.
        confidence_bias: added to the confidences of source frames in training.
        losses: weights of what compares pictures.
        content: the content losses of the second stage.
        stages: which player moves when; by default the first stage alone.
        maps: how the maps of pose and sound are fitted.
        sound: how 0.2 s of sound are described.
        dtype: "float32" or "bfloat16", what the large networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: a confidence_bias below 0.
    """

    size: SizeParams = dataclasses.field(default_factory=SizeParams)
    confidence_bias: float = 0.1
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    content: ContentParams = dataclasses.field(default_factory=ContentParams)
    stages: Stages = dataclasses.field(default_factory=Stages)
    maps: MapParams = dataclasses.field(default_factory=MapParams)
    sound: SpectrumParams = dataclasses.field(default_factory=SpectrumParams)
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video", "pose", "audio"})
    max_sources = 8
    options = reenact.OPTIONS

    def __post_init__(self) -> None:
        if not self.confidence_bias >= 0:
            raise UserError(f"config.model.confidence_bias={self.confidence_bias}: give 0 or more")

    @property
    def fields(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Frames, and where maps are fitted what they are fitted to."""
        return frozenset({"frames", *(self.maps.labels if self.stages.maps_start is not None else ())})

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The network of faces where there is a second stage; VGG-19 where the perceptual loss has a weight."""
        needed = {}
        if self.stages.content_start is not None:
            needed[self.content.network] = self.content.frozen_network()
        if any(self.losses.perceptual):
            needed["vgg19"] = frozen_vgg()
        return needed

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        networks = Networks(
            embedding_network(self.size, dtype),
            driving_network(self.size, dtype),
            linear(ANGLES),
            VectorFromPose(self.size.vector),
            linear(self.size.vector),
            linear(2 * len(self.losses.landmark_points)) if self.losses.landmarks else None,
            self.confidence_bias,
        )
        return Game(networks, self.losses, self.content, self.stages, self.maps, self.sound, dtype, self.remat)

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` and ``driving`` pictures in [-1, 1], or ``frames``.

        Raises:
            UserError: pictures that the networks do not halve down to one pixel.
        """
        driving, networks = frames_of(batch)[1], self.game.networks
        if driving.shape[1:3] != (2**self.size.levels,) * 2:
            raise UserError(
                f"config.model.size.levels={self.size.levels} is for pictures of {2**self.size.levels}x"
                f"{2**self.size.levels}, not of {driving.shape[1]}x{driving.shape[2]}: x2face needs a side of 2^levels"
            )
        parts = {
            "embedder": (networks.embedder, (driving,), {"train": False}),
            "driver": (networks.driver, (driving,), {"train": False}),
            "pose_from_vector": (networks.pose_from_vector, (jnp.zeros((1, self.size.vector)),), {}),
            "vector_from_pose": (networks.vector_from_pose, (jnp.zeros((1, ANGLES)),), {"train": False}),
            "vector_from_audio": (networks.vector_from_audio, (jnp.zeros((1, self.sound.count)),), {}),
        }
        if networks.landmark_head is not None:
            parts["landmark_head"] = (networks.landmark_head, (jnp.zeros((1, self.size.vector)),), {})
        made: Any = {n: network.init(stream(rng, n), *inputs, **how) for n, (network, inputs, how) in parts.items()}
        for name in ("embedder", "driver"):
            last = made[name]["params"]["up_1"]
            last["kernel"] = self.size.last_gain * last["kernel"]
        return made

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "photometric", "content", "pose_from_vector", "vector_from_pose", "vector_from_audio", as `stages` says.

        Raises:
            UserError: ``optim`` lacks a player, or nobody would ever move.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Both frames, the embedded face, both grids (red, green: x, y of what they sample), prediction, target."""
        (sources, driving), networks = frames_of(batch), self.game.networks
        embedded = networks.embedded(variables, sources)
        grid = networks.grids(variables, networks.vectors(variables, driving))
        generated = jnp.clip(from_unit(grid_sample(embedded.face, grid)), -1, 1)

        def coloured(grid: Float[Array, "b h w 2"]) -> Float[Array, "b h w 3"]:
            return jnp.clip(jnp.concatenate([grid, jnp.zeros_like(grid[..., :1])], axis=-1), -1, 1)

        return {
            "source": from_unit(sources[:, 0]),
            "driving": from_unit(driving),
            "embedded": jnp.clip(from_unit(embedded.face), -1, 1),
            "embedding_grid": coloured(embedded.grid[:, 0]),
            "driving_grid": coloured(grid),
            "prediction": generated,
            "target": from_unit(driving),
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.x2face.reenact`."""
        animator = reenact.Animator(self.game.networks, self.sound, self.maps.rectified)
        return reenact.reenactor(animator, variables, source, anchor=anchor, **options)


METHOD = X2Face
