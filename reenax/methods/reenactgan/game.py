"""How the method is trained: three stages, each with its own players.

"encoder" moves the boundary encoder and the aligner. "map_discriminators" and "transformers" play the cycle game of
maps between the target and every other person. "discriminator" and "decoder" play pix2pix's game of the target's
pictures. Discriminators move first, as published. The losses are in ``encoder_game``, ``transformer_game`` and
``decoder_game``.
"""

import dataclasses
from collections.abc import Mapping

import optax

from reenax.core.errors import UserError
from reenax.core.types import Every, LossFn, Player
from reenax.core.updates import Gradient
from reenax.methods.reenactgan.decoder_game import DecoderGame
from reenax.methods.reenactgan.encoder_game import EncoderGame
from reenax.methods.reenactgan.transformer_game import TransformerGame


@dataclasses.dataclass(frozen=True)
class Stages:
    """Which stage is trained when, in steps. The published training is one run per stage.

    Attributes:
        encoder_stop: the first step on which encoder and aligner stay as they are; None for never.
        transformer_start: the first step on which the transformers and their discriminators move; None for never.
        decoder_start: the same of the decoder and its discriminator.
    """

    encoder_stop: int | None = 0
    transformer_start: int | None = 0
    decoder_start: int | None = 0


@dataclasses.dataclass(frozen=True)
class Game:
    """The three stages."""

    encoding: EncoderGame
    transforming: TransformerGame
    decoding: DecoderGame
    stages: Stages

    @property
    def encodes(self) -> bool:
        return self.stages.encoder_stop != 0

    @property
    def transforms(self) -> bool:
        return self.stages.transformer_start is not None

    @property
    def decodes(self) -> bool:
        return self.stages.decoder_start is not None

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """All players that ever move, in the order of their moves.

        Raises:
            UserError: an optimiser is missing, or nobody would ever move.
        """

        def player(
            name: str, owns: tuple[str, ...], loss: LossFn, when: Every, helpers: tuple[str, ...] = ()
        ) -> Player:
            if name not in optim:
                raise UserError(f"config.optim.{name} is missing; every player of reenactgan has its own optimiser")
            return Player(name, owns, Gradient(loss, optim[name], accumulate), when, persists=(*owns, *helpers))

        made, stages = [], self.stages
        if self.encodes:
            when = Every() if stages.encoder_stop is None else Every(stop=stages.encoder_stop)
            made.append(player("encoder", ("encoder", "aligner"), self.encoding.loss, when))
        if stages.transformer_start is not None:
            when, game = Every(start=stages.transformer_start), self.transforming
            drawn, aligned = (("encoder",), ("aligner",)) if game.helper_batch_statistics else ((), ())
            judges = ("target_discriminator", "other_discriminators")
            made.append(player("map_discriminators", judges, game.discriminator_loss, when, drawn))
            movers = ("transformer", "inverse_transformers")
            made.append(player("transformers", movers, game.generator_loss, when, aligned))
        if stages.decoder_start is not None:
            when, game = Every(start=stages.decoder_start), self.decoding
            drawn = ("encoder",) if game.helper_batch_statistics else ()
            made.append(player("discriminator", ("discriminator",), game.discriminator_loss, when, drawn))
            made.append(player("decoder", ("decoder",), game.generator_loss, when))
        if not made:
            raise UserError(
                "config.model.stages leaves nothing to train: raise encoder_stop or set transformer_start or "
                "decoder_start"
            )
        return tuple(made)
