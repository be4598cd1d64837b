"""Learning rates as functions of the step, and the schedulers that use them.

A scheduler here is a function ``(optimizer, total_steps) -> LRScheduler``, stepped after each
optimiser step; ``conf/scheduler`` binds its other arguments. The schedule is computed for the
optimiser's own ``lr``; parameter groups with another rate keep their ratio to it.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_lr(step: int, total_steps: int, base: float, end: float, warmup_steps: int = 0) -> float:
    """Linear warm-up, then half a cosine from ``base`` to ``end`` (Loshchilov & Hutter 2017).

    Args:
        step: optimiser steps taken so far, 0 or more; after ``total_steps`` the rate stays ``end``.
        total_steps: steps of the run, including the warm-up.
        base, end: learning rates.
        warmup_steps: steps of the linear rise from ``base / (warmup_steps + 1)``.
    """
    if step < warmup_steps:
        return _warmup_lr(step, base, warmup_steps)
    span = max(total_steps - warmup_steps, 1)
    return _half_cosine((step - warmup_steps) / span, base, end)


def restarts_lr(
    step: int,
    total_steps: int,
    base: float,
    end: float,
    period: float,
    multiplier: float = 1.0,
    decay: float = 1.0,
    warmup_steps: int = 0,
) -> float:
    """Linear warm-up, then cycles of half a cosine that each restart at a peak (SGDR; Loshchilov &
    Hutter 2017, arXiv 1608.03983).

    The last cycle ends with the run: it is shortened, or lengthened if less than half of another
    cycle would fit.

    Args:
        step, total_steps, base, end, warmup_steps: as for ``cosine_lr``.
        period: steps of the first cycle, above 0, not necessarily whole.
        multiplier: length of a cycle relative to the one before, 1 or more.
        decay: peak of a cycle relative to the one before, in [0, 1]; never below ``end``.
    """
    if step < warmup_steps:
        return _warmup_lr(step, base, warmup_steps)
    start, length, peak = float(warmup_steps), period, base
    while (left := total_steps - start - length) >= multiplier * length / 2:
        if step < start + length:
            return _half_cosine((step - start) / length, peak, end)
        start, length, peak = start + length, length * multiplier, max(peak * decay, end)
    return _half_cosine((step - start) / max(length + left, 1.0), peak, end)


def polynomial_lr(
    step: int, total_steps: int, base: float, end: float, power: float, warmup_steps: int = 0
) -> float:
    """Linear warm-up, then ``(base - end) * (1 - t / T)^power + end`` at step t of the T remaining.

    Args:
        step, total_steps, base, end, warmup_steps: as for ``cosine_lr``.
        power: above 0; 1 is a straight line.
    """
    if step < warmup_steps:
        return _warmup_lr(step, base, warmup_steps)
    if step >= total_steps:
        return end
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return (base - end) * (1.0 - progress) ** power + end


def _warmup_lr(step: int, base: float, warmup_steps: int) -> float:
    return base * (step + 1) / (warmup_steps + 1)


def _half_cosine(progress: float, base: float, end: float) -> float:
    """Falls from ``base`` at progress 0 to ``end`` at 1 and beyond."""
    return end + (base - end) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def cosine(
    optimizer: Optimizer, total_steps: int, *, end_lr: float = 1e-6, warmup: float = 0.0
) -> LambdaLR:
    """Cosine annealing, optionally after a linear warm-up.

    Args:
        optimizer: its ``lr`` is the highest rate.
        total_steps: steps of the run, including the warm-up.
        end_lr: the last learning rate, in [0, the optimiser's lr].
        warmup: share of the steps for the warm-up, in [0, 1).

    Raises:
        ValueError: a value outside its range.
    """
    warmup_steps = _warmup_steps(warmup, total_steps)
    return _scheduler(
        optimizer,
        end_lr,
        lambda step, base: cosine_lr(step, total_steps, base, end_lr, warmup_steps),
    )


def cosine_restarts(
    optimizer: Optimizer,
    total_steps: int,
    *,
    period: float,
    multiplier: float = 1.0,
    decay: float = 1.0,
    end_lr: float = 1e-6,
    warmup: float = 0.0,
) -> LambdaLR:
    """Cosine annealing with warm restarts, after one linear warm-up.

    Args:
        optimizer: its ``lr`` is the highest rate.
        total_steps: steps of the run, including the warm-up.
        period: length of the first cycle as a share of the steps after the warm-up, in (0, 1].
        multiplier: length of a cycle relative to the one before, 1 or more.
        decay: peak of a cycle relative to the one before, in (0, 1].
        end_lr: learning rate at the end of each cycle, in [0, the optimiser's lr].
        warmup: share of the steps for the warm-up, in [0, 1).

    Raises:
        ValueError: a value outside its range.
    """
    if not 0 < period <= 1:
        raise ValueError(f"period={period}; allowed: above 0 and up to 1, all the steps.")
    if multiplier < 1:
        raise ValueError(f"multiplier={multiplier}; allowed: 1 or more.")
    if not 0 < decay <= 1:
        raise ValueError(f"decay={decay}; allowed: above 0 and up to 1.")
    warmup_steps = _warmup_steps(warmup, total_steps)
    first = max(period * (total_steps - warmup_steps), 1.0)

    def rate(step: int, base: float) -> float:
        return restarts_lr(step, total_steps, base, end_lr, first, multiplier, decay, warmup_steps)

    return _scheduler(optimizer, end_lr, rate)


def polynomial(
    optimizer: Optimizer,
    total_steps: int,
    *,
    end_lr: float = 1e-6,
    power: float = 0.9,
    warmup: float = 0.0,
) -> LambdaLR:
    """Polynomial decay, optionally after a linear warm-up.

    Args:
        optimizer: its ``lr`` is the highest rate.
        total_steps: steps of the run, including the warm-up.
        end_lr: the last learning rate, in [0, the optimiser's lr].
        power: above 0; 1 is a straight line.
        warmup: share of the steps for the warm-up, in [0, 1).

    Raises:
        ValueError: a value outside its range.
    """
    if power <= 0:
        raise ValueError(f"power={power}; allowed: above 0.")
    warmup_steps = _warmup_steps(warmup, total_steps)
    return _scheduler(
        optimizer,
        end_lr,
        lambda step, base: polynomial_lr(step, total_steps, base, end_lr, power, warmup_steps),
    )


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Keep the optimiser's learning rate in every step."""
    return _scheduler(optimizer, 0.0, lambda step, base: base)


def _warmup_steps(warmup: float, total_steps: int) -> int:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}; allowed: a share of the steps, 0 to 1, without 1.")
    return round(warmup * total_steps)


def _scheduler(
    optimizer: Optimizer, end_lr: float, rate: Callable[[int, float], float]
) -> LambdaLR:
    base = float(optimizer.defaults["lr"])
    if base <= 0:
        raise ValueError(f"lr={base:g}; allowed: above 0.")
    if not 0 <= end_lr <= base:
        raise ValueError(f"end_lr={end_lr}; allowed: 0 to lr={base}.")
    # LambdaLR multiplies the rate of each group, so the function returns a factor.
    return LambdaLR(optimizer, lambda step: rate(step, base) / base)
