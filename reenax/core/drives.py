"""Handling drivers of any kind: naming them, cutting them into batches, refusing those that a method does not take."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from reenax.core.errors import UserError
from reenax.core.types import DRIVES, AudioDrive, Drive

AnyDrive = TypeVar("AnyDrive", bound=Drive)


def kind_of(drive: Drive) -> str:
    """The name of a driver's kind, a key of `DRIVES`."""
    return next(name for name, kind in DRIVES.items() if isinstance(drive, kind))


def expect(drive: Drive | None, *kinds: type[AnyDrive], method: str) -> AnyDrive:
    """The driver, if it is of one of these kinds.

    Raises:
        UserError: naming what the method takes.
    """
    if not isinstance(drive, kinds):
        given = "nothing" if drive is None else kind_of(drive)
        known = [name for name, kind in DRIVES.items() if kind in kinds]
        raise UserError(f"{method} is driven by {' or '.join(known)}, not by {given}")
    return drive


def length_of(drive: Drive) -> int:
    """How many pictures are asked for."""
    return drive.times.shape[0] if isinstance(drive, AudioDrive) else drive[0].shape[0]


def part_of(drive: AnyDrive, begin: int, end: int, size: int | None = None) -> AnyDrive:
    """Some rows of a driver; with ``size`` the last one is repeated to make so many.

    A batch of a fixed size keeps one compiled program. Speech keeps its whole sound: only the times are cut.
    """
    end = min(end, length_of(drive))

    missing = 0 if size is None else size - (end - begin)

    def cut(rows: Array) -> Array:
        return jnp.concatenate([rows[begin:end], jnp.repeat(rows[end - 1 : end], missing, axis=0)])

    if isinstance(drive, AudioDrive):
        return drive._replace(times=cut(drive.times))
    return jax.tree.map(cut, drive)
