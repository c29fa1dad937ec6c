"""Animation: a driver's boundaries, turned into the target's, and the target painted from them (section 3)."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.drives import expect
from reenax.core.types import Drive, Option, Reenactor, Variables, VideoDrive
from reenax.methods.reenactgan.decoder import Decoder
from reenax.methods.reenactgan.encoder import BoundaryEncoder
from reenax.methods.reenactgan.transformer import BoundaryTransformer

OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "transform": Option(True, "turn the driver's boundaries into the target's; False where the target drives"),
        "batch_statistics": Option(
            False, "normalise every picture by its own statistics, as the published test script does"
        ),
        "dropout": Option(
            False, "drop units of the decoder, as the published test script does; the same in all frames"
        ),
    }
)


class Chain(NamedTuple):
    """The three networks in a row.

    Attributes:
        encoder, transformer, decoder: the networks.
        transform: whether there is a transformer in the row.
        batch_statistics: every picture is normalised by its own statistics.
        dropout: the decoder drops units.
    """

    encoder: BoundaryEncoder
    transformer: BoundaryTransformer
    decoder: Decoder
    transform: bool = True
    batch_statistics: bool = False
    dropout: bool = False

    def __call__(self, variables: Variables, frames: Float[Array, "t h w 3"]) -> Float[Array, "t h w 3"]:
        """The target doing what the people in the pictures do."""
        if not self.batch_statistics:
            return self.steps(variables, frames)[-1]
        made: Any = jax.lax.map(lambda frame: self.steps(variables, frame[None])[-1][0], frames)
        return made

    def steps(self, variables: Variables, frames: Float[Array, "t h w 3"]) -> tuple[Array, Array, Array]:
        """Boundaries of the driver, those that are painted, and the pictures."""
        drawn: Any = self._apply(self.encoder, variables["encoder"], frames)
        maps = drawn[-1]
        turned = self._apply(self.transformer, variables["transformer"], maps) if self.transform else maps
        # one key for all frames: a unit that is dropped in every frame does not flicker
        streams = {"dropout": jax.random.key(0)} if self.dropout else {}
        face = self._apply(self.decoder, variables["decoder"], turned, dropout=self.dropout, rngs=streams)
        return maps, turned, face

    def _apply(self, network: Any, variables: Any, x: Array, **how: Any) -> Any:
        if not self.batch_statistics:
            return network.apply(variables, x, train=False, **how)
        return network.apply(variables, x, train=True, mutable=["batch_stats"], **how)[0]


@functools.partial(jax.jit, static_argnums=0)
def _animate(chain: Chain, variables: Variables, frames: Array) -> Array:
    return chain(variables, frames)


def reenactor(chain: Chain, variables: Variables) -> Reenactor:
    """From driving frames to frames of the target, both in [-1, 1]."""
    used = {name: variables[name] for name in ("encoder", "transformer", "decoder")}

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        return _animate(chain, used, jnp.asarray(expect(drive, VideoDrive, method="reenactgan").frames))

    return run
