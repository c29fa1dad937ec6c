"""Animation: every frame is made from the source, with the labels that are asked for."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.drives import expect
from reenax.core.errors import UserError
from reenax.core.types import ActionUnitDrive, Drive, LabelDrive, Reenactor, Source, Variables
from reenax.methods.stargan.game import Game
from reenax.nn.label_networks import reads_labels


@functools.partial(jax.jit, static_argnums=0)
def _read(game: Game, variables: Variables, source: Float[Array, "1 h w 3"]) -> Float[Array, "1 c"]:
    return game.labels.read(game.read(variables, source).label)


@functools.partial(jax.jit, static_argnums=0)
def _draw(
    game: Game, variables: Variables, source: Float[Array, "1 h w 3"], labels: Float[Array, "b c"]
) -> Float[Array, "b h w 3"]:
    return game.draw(variables, jnp.broadcast_to(source, (labels.shape[0], *source.shape[1:])), labels)


def reenactor(game: Game, variables: Variables, source: Source) -> Reenactor:
    """Returns the function from labels, or action units where those are the labels, to pictures in [-1, 1].

    Args:
        game: the networks.
        variables: as trained.
        source: its first picture is animated. Where a label is left open, the critic reads it.

    Raises:
        UserError: a label is left open and the critic was never trained; labels are asked for that exclude each other;
            another kind of driver, or of other labels.
    """
    labels, picture = game.labels, source.frames[:1]

    @functools.cache
    def own() -> Float[Array, "1 c"]:
        if not reads_labels(variables):
            raise UserError(
                "reading the source's own labels needs the critic, which was not imported with this generator: import "
                "both files, or give every label"
            )
        return _read(game, variables, picture)

    def asked(drive: Drive) -> tuple[Float[Array, "t c"], Float[Array, " t"] | None]:
        if labels.field != "action_units":
            return expect(drive, LabelDrive, method="stargan").labels, None
        drive = expect(drive, LabelDrive, ActionUnitDrive, method="stargan")
        if isinstance(drive, LabelDrive):
            return drive.labels, None
        return labels.of_units(drive.intensities), drive.amount

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        wanted, amount = asked(drive)
        if wanted.shape[-1] != len(labels.names):
            names = ", ".join(labels.names)
            raise UserError(f"the driver has {wanted.shape[-1]} labels; this model has {len(labels.names)}: {names}")
        if isinstance(drive, LabelDrive):
            wanted = labels.settled(wanted)
        if amount is not None or bool(jnp.isnan(wanted).any()):
            wanted = labels.resolved(wanted, own(), amount)
        return _draw(game, variables, picture, wanted)

    return run
