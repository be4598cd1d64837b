"""Learning rates as functions of the step, and the schedulers made of them.

A scheduler here is a function ``(optimizer, total_steps) -> LRScheduler`` that is stepped after
each optimiser step; bind its other arguments in ``conf/scheduler``. The base rate is each parameter
group's own ``lr``.
"""

import math
from collections.abc import Callable
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from product_cls.errors import UserError


def cosine_lr(step: int, total_steps: int, base: float, end: float, warmup_steps: int = 0) -> float:
    """Linear warm-up, then half a cosine from ``base`` to ``end`` (Loshchilov & Hutter 2017).

    Args:
        step: optimiser steps done, 0 or more; after ``total_steps`` the rate stays at ``end``.
        total_steps: steps of the run, the warm-up included.
        base, end: learning rates.
        warmup_steps: steps of the rise from ``base / (warmup_steps + 1)``.
    """
    if step < warmup_steps:
        return base * (step + 1) / (warmup_steps + 1)
    span = max(total_steps - warmup_steps, 1)
    progress = min((step - warmup_steps) / span, 1.0)
    return end + (base - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def polynomial_lr(step: int, total_steps: int, base: float, end: float, power: float) -> float:
    """``(base - end) * (1 - step / total_steps)^power + end``; ``end`` after ``total_steps``."""
    if step >= total_steps:
        return end
    return (base - end) * (1.0 - step / total_steps) ** power + end


def cosine(
    optimizer: Optimizer, total_steps: int, *, end_lr: float = 1e-6, warmup: float = 0.0
) -> LambdaLR:
    """Cosine annealing, optionally after a linear warm-up.

    Args:
        end_lr: the last learning rate, in [0, the optimiser's lr].
        warmup: share of the steps spent warming up, in [0, 1).

    Raises:
        UserError: a value outside its range.
    """
    if not 0 <= warmup < 1:
        raise UserError(f"scheduler.warmup={warmup} is no share of the steps; allowed: 0 to 1.")
    warmup_steps = round(warmup * total_steps)
    return _scheduler(
        optimizer,
        end_lr,
        lambda step, base: cosine_lr(step, total_steps, base, end_lr, warmup_steps),
    )


def polynomial(
    optimizer: Optimizer, total_steps: int, *, end_lr: float = 1e-6, power: float = 0.9
) -> LambdaLR:
    """Polynomial decay.

    Args:
        end_lr: the last learning rate, in [0, the optimiser's lr].
        power: 1 is a straight line.

    Raises:
        UserError: a value outside its range.
    """
    if power <= 0:
        raise UserError(f"scheduler.power={power}; it must be above 0.")
    return _scheduler(
        optimizer, end_lr, lambda step, base: polynomial_lr(step, total_steps, base, end_lr, power)
    )


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The optimiser's own learning rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def _scheduler(
    optimizer: Optimizer, end_lr: float, rate: Callable[[int, float], float]
) -> LambdaLR:
    bases = [float(group["lr"]) for group in optimizer.param_groups]
    if min(bases) <= 0:
        raise UserError(f"optimizer.lr={min(bases):g}; it must be above 0.")
    if not 0 <= end_lr <= min(bases):
        raise UserError(f"scheduler.end_lr={end_lr}; allowed: 0 to optimizer.lr={min(bases)}.")
    # LambdaLR multiplies each group's own rate, so it gets the absolute rate's share of that.
    return LambdaLR(optimizer, [partial(_share, rate, base) for base in bases])


def _share(rate: Callable[[int, float], float], base: float, step: int) -> float:
    return rate(step, base) / base
