"""Optimisers and learning rate schedules from a config."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from reenax.core.errors import UserError

SCHEDULE_KEYS = frozenset({"lr", "schedule", "milestones", "factor", "hold", "decay", "period", "warmup_steps"})
KIND_KEYS = {"adam": frozenset({"b1", "b2", "eps", "weight_decay"}), "sgd": frozenset({"momentum"})}
KEYS = SCHEDULE_KEYS | {"kind", "l2", "clip"}


def make_schedule(settings: Mapping[str, Any], steps: int, steps_per_epoch: int, prefix: str) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        settings: ``lr``; ``schedule`` "constant", "cosine" (to zero at the last step), "milestones" (times
            ``factor`` after each of ``milestones``, which count epochs) or "linear" (in stairs: after e whole periods
            the rate is lr * (1 - max(0, e - hold) / decay), a period being ``period`` steps, 0 for an epoch);
            ``warmup_steps`` of linear rise.
        steps: length of the training.
        steps_per_epoch: what a milestone is multiplied by.
        prefix: how messages call the settings.

    Raises:
        UserError: an unknown schedule.
    """
    lr, name, warmup = settings["lr"], settings.get("schedule", "constant"), settings.get("warmup_steps", 0)
    if name == "constant":
        schedule = optax.constant_schedule(lr)
    elif name == "cosine":
        schedule = optax.cosine_decay_schedule(lr, max(1, steps - warmup))
    elif name == "milestones":
        factor = settings.get("factor", 0.1)
        boundaries = {int(m * steps_per_epoch) - warmup: factor for m in settings["milestones"]}
        schedule = optax.piecewise_constant_schedule(lr, boundaries)
    elif name == "linear":
        hold, decay, period = settings["hold"], settings["decay"], settings.get("period") or steps_per_epoch
        if decay <= 0:
            raise UserError(f"{prefix}.decay={decay}: the linear schedule needs the positive number of its periods")

        schedule = functools.partial(_linear, lr=lr, hold=hold, decay=decay, period=period, before=warmup)
    else:
        raise UserError(f'{prefix}.schedule={name!r} is unknown; use "constant", "cosine", "milestones" or "linear"')
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), schedule], [warmup])


def _linear(count: ArrayLike, *, lr: float, hold: int, decay: int, period: int, before: int) -> Float[Array, ""]:
    periods = (jnp.asarray(count) + before) // period
    return lr * jnp.clip(1 - jnp.maximum(0, periods - hold) / decay, 0, 1)


def make_optimisers(
    optim: Mapping[str, Mapping[str, Any]], steps: int, steps_per_epoch: int
) -> dict[str, optax.GradientTransformationExtraArgs]:
    """One optimiser per entry of ``config.optim``, at the entry's schedule.

    ``kind`` "adam" (the default) takes b1, b2, eps and weight_decay (decoupled), "sgd" takes momentum; both take ``l2``
    (times the params, added to the gradient before anything else: what PyTorch calls weight decay) and ``clip`` (of
    the global norm). Schedules run with the training's steps, however often an optimiser moves; its ``update`` takes
    the step as a keyword.

    Raises:
        UserError: an unknown key, kind or schedule.
    """
    made = {}
    for name, settings in optim.items():
        prefix, kind = f"config.optim.{name}", settings.get("kind", "adam")
        if kind not in KIND_KEYS:
            raise UserError(f"{prefix}.kind={kind!r} is unknown; use {' or '.join(KIND_KEYS)}")
        for key in settings:
            if key not in KEYS | KIND_KEYS[kind]:
                known = ", ".join(sorted(KEYS | KIND_KEYS[kind]))
                raise UserError(f"{prefix}.{key} is unknown; the keys are: {known}")
        parts = []
        if clip := settings.get("clip", 0.0):
            parts.append(optax.clip_by_global_norm(clip))
        if l2 := settings.get("l2", 0.0):
            parts.append(optax.add_decayed_weights(l2))
        if kind == "adam":
            parts.append(optax.scale_by_adam(**{key: settings[key] for key in ("b1", "b2", "eps") if key in settings}))
            parts.append(optax.add_decayed_weights(settings.get("weight_decay", 0.0)))
        elif momentum := settings.get("momentum", 0.0):
            parts.append(optax.trace(momentum))
        parts.append(_at_rate(make_schedule(settings, steps, steps_per_epoch, prefix)))
        made[name] = optax.with_extra_args_support(optax.chain(*parts))
    return made


def _at_rate(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Minus the learning rate times the updates, at the training's step.

    optax's own schedules count the moves of an optimiser: those of a generator that moves on every fifth step, or of a
    player that two losses share, would run at another speed than the training.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        rate = -jnp.asarray(schedule(extra["step"]))
        return jax.tree.map(lambda u: rate.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
