"""What a label is: where a dataset has it, how the critic's reading of it is scored, what a driver asks for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.types import Batch
from reenax.geometry.head.action_units import ACTION_UNITS, MAXIMUM

FIELDS = ("attributes", "acted", "action_units")


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of one model, 0 or 1 each.

    Attributes:
        names: what they stand for.
        field: where they come from: "attributes" as they are; "acted", the number of the expression; "action_units",
            1 from ``threshold`` on, with names of `ACTION_UNITS`.
        exclusive: exactly one of them is 1: cross entropy of a softmax instead of one per label.
        groups: names of which at most one is 1, such as colours of hair.
        threshold: of action units in [0, 1].

    Raises:
        UserError: an unknown field or name, or none at all.
    """

    names: tuple[str, ...]
    field: str = "attributes"
    exclusive: bool = False
    groups: tuple[tuple[str, ...], ...] = ()
    threshold: float = 0.3

    def __post_init__(self) -> None:
        if self.field not in FIELDS:
            raise UserError(f"config.model.label_field={self.field!r} is unknown; use {', '.join(FIELDS)}")
        if not self.names:
            raise UserError("config.model.label_names is empty: name the labels")
        known = ACTION_UNITS if self.field == "action_units" else self.names
        grouped = [name for group in self.groups for name in group]
        for names, among in ((self.names, known), (grouped, self.names)):
            for name in names:
                if name not in among:
                    raise UserError(f"config.model: the label {name!r} is unknown; known are {', '.join(among)}")

    def of(self, batch: Batch) -> Float[Array, "b c"]:
        """The labels of a batch.

        Raises:
            UserError: the dataset has another number of attributes.
        """
        given = batch[self.field]
        if self.field == "acted":
            return jax.nn.one_hot(given[:, 0], len(self.names))
        if self.field == "action_units":
            return self.of_units(given / MAXIMUM)
        if given.shape[-1] != len(self.names):
            raise UserError(
                f"the dataset has {given.shape[-1]} attributes, and config.model.label_names has {len(self.names)}: "
                "prepare it with these, or name its own"
            )
        return given

    def of_units(self, intensities: Float[Array, "b 17"]) -> Float[Array, "b c"]:
        """Labels of action units in [0, 1]; NaN stays NaN."""
        chosen = intensities[:, jnp.asarray([ACTION_UNITS.index(n) for n in self.names])]
        return jnp.where(jnp.isnan(chosen), chosen, (chosen >= self.threshold).astype(chosen.dtype))

    def loss(self, logits: Float[Array, "b c"], labels: Float[Array, "b c"]) -> Float[Array, ""]:
        """Cross entropy: the mean over pictures, of the sum over labels that do not exclude each other."""
        if self.exclusive:
            return jnp.mean(optax.softmax_cross_entropy(logits, labels))
        return jnp.mean(jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels), axis=-1))

    def read(self, logits: Float[Array, "b c"]) -> Float[Array, "b c"]:
        """The labels that the critic's logits stand for."""
        if self.exclusive:
            return jax.nn.one_hot(jnp.argmax(logits, axis=-1), len(self.names), dtype=logits.dtype)
        return (logits > 0).astype(logits.dtype)

    def resolved(
        self, asked: Float[Array, "t c"], own: Float[Array, "1 c"], amount: Float[Array, " t"] | None = None
    ) -> Float[Array, "t c"]:
        """Labels without gaps: NaN is the source's own, unless one that excludes it is asked for.

        ``amount`` from 0 to 1 is how far to go from the source's own; a label follows from a half on.
        """
        own = jnp.broadcast_to(own, asked.shape)
        asked = self._without_rivals(asked)
        made = jnp.where(jnp.isnan(asked), own, asked)
        if amount is None:
            return made
        return jnp.where(amount[:, None] >= 0.5, made, own)

    def settled(self, asked: Float[Array, "t c"]) -> Float[Array, "t c"]:
        """The same, where a label that is excluded by an asked one is 0 and no longer open.

        Raises:
            UserError: two labels that exclude each other are asked for, or none where one has to be.
        """
        for group in self._excluding():
            chosen = np.asarray(asked)[:, [self.names.index(n) for n in group]]
            for row in chosen:
                wanted = [name for name, value in zip(group, row, strict=True) if value == 1]
                if len(wanted) > 1:
                    raise UserError(f"the labels {', '.join(wanted)} exclude each other; ask for one of them")
                if self.exclusive and not wanted and not np.isnan(row).all():
                    raise UserError(f"one of the labels {', '.join(group)} is always 1: ask for that one")
        return self._without_rivals(asked)

    def _without_rivals(self, asked: Float[Array, "t c"]) -> Float[Array, "t c"]:
        for group in self._excluding():
            of_group = jnp.asarray([n in group for n in self.names])[None]
            claimed = jnp.any(of_group & (asked == 1), axis=-1, keepdims=True)
            asked = jnp.where(claimed & of_group & jnp.isnan(asked), 0.0, asked)
        return asked

    def _excluding(self) -> tuple[tuple[str, ...], ...]:
        return (self.names,) if self.exclusive else self.groups

    def variations(self, own: Float[Array, "b c"]) -> dict[str, Float[Array, "b c"]]:
        """By name, the labels with that one changed; where labels exclude each other, with that one set alone."""
        made = {}
        for i, name in enumerate(self.names):
            wanted = jnp.ones_like(own[:, i]) if self.exclusive else 1 - own[:, i]
            rivals = {n for group in self._excluding() if name in group for n in group}
            cleared = jnp.asarray([n in rivals for n in self.names])[None] & (wanted == 1)[:, None]
            made[name] = jnp.where(cleared, 0.0, own).at[:, i].set(wanted)
        return made
