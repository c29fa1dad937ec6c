"""Optimisers and learning rate schedules from a config."""

from collections.abc import Mapping
from typing import Any

import optax

from reenax.core.errors import UserError

KEYS = frozenset({"lr", "schedule", "milestones", "factor", "warmup_steps", "b1", "b2", "eps", "weight_decay", "clip"})


def make_schedule(settings: Mapping[str, Any], steps: int, steps_per_epoch: int, prefix: str) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        settings: ``lr``; ``schedule`` "constant", "cosine" (to zero at the last step) or "milestones" (times
            ``factor`` after each of ``milestones``, which count epochs); ``warmup_steps`` of linear rise.
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
    else:
        raise UserError(f'{prefix}.schedule={name!r} is unknown; use "constant", "cosine" or "milestones"')
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), schedule], [warmup])


def make_optimisers(
    optim: Mapping[str, Mapping[str, Any]], steps: int, steps_per_epoch: int
) -> dict[str, optax.GradientTransformation]:
    """One Adam (with decoupled weight decay and clipping of the global norm where asked) per entry of ``config.optim``.

    Raises:
        UserError: an unknown key or schedule.
    """
    made = {}
    for name, settings in optim.items():
        prefix = f"config.optim.{name}"
        for key in settings:
            if key not in KEYS:
                raise UserError(f"{prefix}.{key} is unknown; the keys are: {', '.join(sorted(KEYS))}")
        schedule = make_schedule(settings, steps, steps_per_epoch, prefix)
        adam = optax.adamw(
            schedule,
            b1=settings.get("b1", 0.9),
            b2=settings.get("b2", 0.999),
            eps=settings.get("eps", 1e-8),
            weight_decay=settings.get("weight_decay", 0.0),
        )
        clip = settings.get("clip", 0.0)
        made[name] = optax.chain(optax.clip_by_global_norm(clip), adam) if clip else adam
    return made
