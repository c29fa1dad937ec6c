"""GANimation: Anatomically-aware Facial Animation from a Single Image.

Albert Pumarola, Antonio Agudo, Aleix M. Martinez, Alberto Sanfeliu, Francesc Moreno-Noguer. ECCV 2018,
arXiv:1807.09251.

    @inproceedings{pumarola2018ganimation,
      title={GANimation: Anatomically-aware Facial Animation from a Single Image},
      author={Pumarola, Albert and Agudo, Antonio and Martinez, Aleix M. and Sanfeliu, Alberto and Moreno-Noguer,
        Francesc},
      booktitle={Proceedings of the European Conference on Computer Vision},
      year={2018}
    }

A face is drawn with other intensities of the 17 facial action units that OpenFace measures. The generator paints a
colour map and an attention map that says where to use it and where to keep the picture. No pair of pictures is needed:
a Wasserstein critic judges whether the result is real and reads its action units, and the way back to the measured ones
must lead to the picture again.

What differs from the paper follows its code: weights and form of the attention's losses (its mean, and absolute instead
of squared differences of neighbours), an attention of 1 keeps the picture, the weight of the action units is divided by
the batch size. What differs from the code:

- The generator moves on every fifth step and on no other; the code also moves it whenever it shows a picture.
- The root in the gradient penalty is of a sum that 1e-12 was added to, so that it has a derivative everywhere.
- Records are permuted anew for every epoch, where the code draws each example by chance. In a dataset of clips an epoch
  counts clips, and one frame of each is drawn; so it is with people who have one record each.
- The instance norms start with scale 1; the code's framework drew their scales from U(0, 1).

Driving frames (section "expression transfer") are read by the trained critic, for which the paper has no name, and
their action units are taken as they are. Mode "relative" is ours: it adds to the source's own action units what the
driver's have changed since its first frame, so that a driver's resting face leaves the source's as it is.

Training (DATA as ``reenax prepare FOLDER --layout ganimation`` makes it, or any dataset with action units):

    reenax train --config configs/ganimation.py:emotionet128 --data DATA --run runs/ganimation
    reenax animate --run runs/ganimation --source me.jpg --driving talk.mp4 --out out.mp4

Read it in this order: ``networks``, ``game`` (losses and players), ``reenact`` (animation).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, Method, Player, Reenactor, Source, Variables
from reenax.geometry.head.action_units import MAXIMUM
from reenax.methods.ganimation import reenact
from reenax.methods.ganimation.game import Game, LossParams
from reenax.methods.ganimation.networks import UNITS, DeviatingCriticParams, Generator, make_critic
from reenax.nn.label_networks import GeneratorParams, check_critic_steps

COPIES, REPAINTS = 0.95, 0.05  # mean attention beyond which the generator has collapsed


@dataclasses.dataclass(frozen=True)
class GANimation(Method):
    """The method with its hyper-parameters; the defaults are those of the published code.

    Attributes:
        generator, critic: sizes of the networks.
        losses: weights of the losses.
        saturate_attention: push the attention towards 0 and 1 wherever it is used.
        critic_steps: steps of the critic per step of the generator.
        target_noise: asked action units are changed by up to so much, of [0, 1], in training.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: ``critic_steps`` below 1.
    """

    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    critic: DeviatingCriticParams = dataclasses.field(default_factory=DeviatingCriticParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    saturate_attention: bool = False
    critic_steps: int = 5
    target_noise: float = 0.1
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"action_units", "video"})
    fields = frozenset({"frames", "action_units"})
    options = reenact.OPTIONS

    def __post_init__(self) -> None:
        check_critic_steps(self.critic_steps)

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        generator = Generator(self.generator, self.saturate_attention, dtype=dtype, remat=self.remat)
        return Game(generator, make_critic(self.critic, dtype), self.losses, self.critic_steps, self.target_noise)

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` pictures in [-1, 1] of the critic's size."""
        picture, game = batch["source"], self.game
        return {
            "generator": game.generator.init(stream(rng, "generator"), picture, jnp.zeros((picture.shape[0], UNITS))),
            "critic": game.critic.init(stream(rng, "critic"), picture),
        }

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "critic", "penalty" (with the critic's optimiser) and "generator".

        Raises:
            UserError: ``optim`` lacks a network.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """The picture, that with the asked action units, its attention (white: kept) and colours, and the way back.

        There is no true picture with the asked action units: "prediction" is the way back, and its target the source.
        """
        source, units = batch["source"], batch["action_units"] / MAXIMUM
        there = self.game.generate(variables, source, batch["target_action_units"] / MAXIMUM)
        return {
            "source": source,
            "edited": there.picture,
            "attention": jnp.broadcast_to(2 * there.attention - 1, source.shape),
            "colour": there.colour,
            "prediction": self.game.generate(variables, there.picture, units).picture,
            "target": source,
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.ganimation.reenact`."""
        return reenact.reenactor(self.game, variables, source, anchor=anchor, **options)

    def remarks(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The attention's collapse to a copy of the picture, or to none of it."""
        attention = metrics.get("generator/attention")
        if attention is None or REPAINTS <= attention <= COPIES:
            return ()
        if attention > COPIES:
            return (
                f"the attention's mean is above {COPIES}: the generator copies its input. Where it stays so when the "
                "critic has learned to read action units, it is this method's known collapse: see that the dataset's "
                "action units are right, then raise config.model.losses.attention, and only that",
            )
        return (
            f"the attention's mean is below {REPAINTS}: the generator paints the whole picture anew; lower "
            "config.model.losses.attention",
        )


METHOD = GANimation
