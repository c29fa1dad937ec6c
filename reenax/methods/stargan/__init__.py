"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation.

Yunjey Choi, Minje Choi, Munyoung Kim, Jung-Woo Ha, Sunghun Kim, Jaegul Choo. CVPR 2018, arXiv:1711.09020.

    @inproceedings{choi2018stargan,
      title={{StarGAN}: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation},
      author={Choi, Yunjey and Choi, Minje and Kim, Munyoung and Ha, Jung-Woo and Kim, Sunghun and Choo, Jaegul},
      booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year={2018}
    }

One generator for all labels: it is told which ones a face shall have and paints the whole picture. A Wasserstein critic
judges whether the result is real and names its labels, and the way back to the first labels must lead to the picture
again. The baseline of GANimation, which has intensities of action units in the place of labels, and an attention.

What differs from the paper and its code:

- One dataset at a time: the joint training on CelebA and RaFD, in which two datasets alternate within a step, is left
  out.
- The learning rate falls to zero over the second half, as the paper says; the code's falls by a thousandth of itself.
- The root in the gradient penalty is of a sum that 1e-12 was added to, so that it has a derivative everywhere.
- Records are permuted anew for every epoch, and one picture of each is drawn. Where a record is a person (CelebA with
  its file of identities, RaFD by its file names) people are drawn evenly, however many pictures there are of them.
- Labels may also be thresholded action units (``label_field="action_units"``), to compare with GANimation where a
  dataset has nothing else.

Training (DATA as ``reenax prepare FOLDER --layout celeba`` or ``--layout rafd`` makes it):

    reenax train --config configs/stargan.py:celeba128 --data DATA --run runs/stargan

Read it in this order: ``labels``, ``networks``, ``game`` (losses and players), ``reenact`` (animation).
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
from reenax.methods.stargan import reenact
from reenax.methods.stargan.game import Game, LossParams
from reenax.methods.stargan.labels import Labels
from reenax.methods.stargan.networks import Generator
from reenax.nn.label_networks import CriticParams, GeneratorParams, LabelCritic, check_critic_steps

COLUMNS = 8  # of changed labels on a sheet, at most
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair")


@dataclasses.dataclass(frozen=True)
class StarGAN(Method):
    """The method with its hyper-parameters; the defaults are those of the published model of CelebA.

    Attributes:
        label_names, label_field, exclusive_labels, label_groups, unit_threshold: what the labels are, see
            `reenax.methods.stargan.labels.Labels`.
        generator, critic: sizes of the networks.
        losses: weights of the losses.
        critic_steps: steps of the critic per step of the generator.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: ``critic_steps`` below 1.
    """

    label_names: tuple[str, ...] = (*HAIR, "Male", "Young")
    label_field: str = "attributes"
    exclusive_labels: bool = False
    label_groups: tuple[tuple[str, ...], ...] = (HAIR,)
    unit_threshold: float = 0.3
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    critic: CriticParams = dataclasses.field(default_factory=CriticParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    critic_steps: int = 5
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        check_critic_steps(self.critic_steps)

    @property
    def drives(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Labels; action units too, where those are the labels."""
        return frozenset({"labels", "action_units"} if self.label_field == "action_units" else {"labels"})

    @property
    def fields(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Frames and where their labels come from."""
        return frozenset({"frames", self.label_field})

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses.

        Raises:
            UserError: labels that do not fit together.
        """
        dtype, names = None if self.dtype == "float32" else jnp.dtype(self.dtype), self.label_names
        labels = Labels(names, self.label_field, self.exclusive_labels, self.label_groups, self.unit_threshold)
        size = self.critic
        return Game(
            Generator(self.generator, dtype=dtype, remat=self.remat),
            LabelCritic(len(names), size.image_size, size.features, size.layers, dtype=dtype),
            labels,
            self.losses,
            self.critic_steps,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` pictures in [-1, 1] of the critic's size."""
        picture, game = batch["source"], self.game
        labels = jnp.zeros((picture.shape[0], len(self.label_names)))
        return {
            "generator": game.generator.init(stream(rng, "generator"), picture, labels, train=False),
            "critic": game.critic.init(stream(rng, "critic"), picture),
        }

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "critic" and "generator".

        Raises:
            UserError: ``optim`` lacks a network.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """The picture with each of the first labels changed, and the way back from the first of these.

        There is no true picture with changed labels: "prediction" is the way back, and its target the source.
        """
        source, labels = batch["source"], self.game.labels.of(batch)
        changed = list(self.game.labels.variations(labels).items())[:COLUMNS]
        made = {name: self.game.draw(variables, source, asked) for name, asked in changed}
        back = self.game.draw(variables, made[changed[0][0]], labels)
        return {"source": source, **made, "prediction": back, "target": source}

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.stargan.reenact`; no label is relative to another frame's."""
        return reenact.reenactor(self.game, variables, source, **options)


METHOD = StarGAN
