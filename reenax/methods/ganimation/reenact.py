"""Animation: every frame is made from the source, by the action units that are asked for.

Action units come as numbers, or the critic reads them from driving frames. What is not asked for stays as the critic
reads it from the source. All that it reads is clipped to [0, 1].
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.drives import expect
from reenax.core.errors import UserError
from reenax.core.types import ActionUnitDrive, Drive, Option, Reenactor, Source, Variables, VideoDrive
from reenax.methods.ganimation.game import Game
from reenax.nn.label_networks import reads_labels

OPTIONS = {
    "mode": Option(
        "absolute",
        "for driving frames. absolute takes their action units as they are read; relative adds their change since the "
        "first frame to the source's own, and one picture changes nothing. Action units that are given as numbers are "
        "always taken as they are",
        ("relative", "absolute"),
    ),
}


@functools.partial(jax.jit, static_argnums=0)
def _read(game: Game, variables: Variables, frames: Float[Array, "b h w 3"]) -> Float[Array, "b 17"]:
    return game.read(variables, frames).label


@functools.partial(jax.jit, static_argnums=0)
def _draw(
    game: Game, variables: Variables, source: Float[Array, "1 h w 3"], units: Float[Array, "b 17"]
) -> Float[Array, "b h w 3"]:
    pictures = jnp.broadcast_to(source, (units.shape[0], *source.shape[1:]))
    return game.generate(variables, pictures, units).picture


def asked_units(
    intensities: Float[Array, "t 17"], amount: Float[Array, " t"] | None, own: Float[Array, "1 17"]
) -> Float[Array, "t 17"]:
    """``amount * asked + (1 - amount) * own``; an intensity that is NaN is the source's own."""
    own = jnp.broadcast_to(own, intensities.shape)
    asked = jnp.where(jnp.isnan(intensities), own, intensities)
    if amount is None:
        return asked
    return amount[:, None] * asked + (1 - amount[:, None]) * own


def reenactor(
    game: Game, variables: Variables, source: Source, *, anchor: Drive | None = None, mode: str = "absolute"
) -> Reenactor:
    """Reads the source once and returns the function from action units or driving frames to pictures in [-1, 1].

    Args:
        game: the networks.
        variables: as trained.
        source: its first picture is animated.
        anchor: the driver's beginning; read for driving frames in mode "relative".
        mode: "relative" or "absolute", see `OPTIONS`; what driving frames ask for is clipped to [0, 1].

    Raises:
        UserError: an unknown mode; relative motion of frames without an anchor; action units must be read and the
            critic was never trained; another kind of driver.
    """
    if mode not in OPTIONS["mode"].choices:
        raise UserError(f"mode must be one of {', '.join(OPTIONS['mode'].choices)}, got {mode!r}")
    picture = source.frames[:1]

    def measure(frames: Float[Array, "b h w 3"]) -> Float[Array, "b 17"]:
        if not reads_labels(variables):
            raise UserError(
                "reading action units from pictures needs the critic, which was not imported with this generator: "
                "import both files, or give every action unit as a number and no amount"
            )
        return jnp.clip(_read(game, variables, frames), 0, 1)

    @functools.cache
    def own() -> Float[Array, "1 17"]:
        return measure(picture)

    @functools.cache
    def start() -> Float[Array, "1 17"]:
        if not isinstance(anchor, VideoDrive):
            raise UserError(
                'mode "relative" needs an anchor, the first driving frame: give one, or use mode "absolute"'
            )
        return measure(anchor.frames[:1])

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        drive = expect(drive, ActionUnitDrive, VideoDrive, method="ganimation")
        if isinstance(drive, VideoDrive):
            units = measure(drive.frames)
            units = jnp.clip(own() + units - start(), 0, 1) if mode == "relative" else units
        elif drive.amount is None and not bool(jnp.isnan(drive.intensities).any()):
            units = drive.intensities
        else:
            units = asked_units(drive.intensities, drive.amount, own())
        return _draw(game, variables, picture, units)

    return run
