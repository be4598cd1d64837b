"""Losses of several heads."""

import torch
from torch import Tensor, nn


def known_rows(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """A loss over the labelled rows.

    Args:
        loss: takes logits ``[B, C]`` and targets ``[B]``.
        logits: float ``[B, C]``.
        target: int64 ``[B]``, negative if unknown.

    Returns:
        A scalar; without labelled rows, 0 with a gradient of 0.
    """
    labelled = target >= 0
    if not labelled.any():
        return logits[:0].sum()  # 0 * logits would be NaN for infinite logits
    value: Tensor = loss(logits[labelled], target[labelled])
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
