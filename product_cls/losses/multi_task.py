"""Losses of several heads."""

import torch
from torch import Tensor, nn


def known_rows(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """A loss over the rows whose label is known.

    Args:
        loss: takes logits ``[B, C]`` and targets ``[B]``.
        logits: ``[B, C]``.
        target: int64 ``[B]``, negative where unknown.

    Returns:
        A scalar. If no row is known, 0 with a gradient of 0.
    """
    known = target >= 0
    if not known.any():
        return logits[:0].sum()  # 0 * logits would be NaN for infinite logits
    value: Tensor = loss(logits[known], target[known])
    return value


def uncertainty_weighted(losses: Tensor, log_variance: Tensor) -> Tensor:
    """Losses weighted by the learnt uncertainty of their tasks: ``sum(exp(-s) * L + s / 2)``.

    s is the logarithm of each task's variance (Kendall, Gal and Cipolla 2018, arXiv 1705.07115,
    for classification). The minimum is at ``s = log(2 L)``.

    Args:
        losses: float ``[H]``.
        log_variance: float ``[H]``.

    Returns:
        A scalar.
    """
    return (torch.exp(-log_variance) * losses + log_variance / 2).sum()
