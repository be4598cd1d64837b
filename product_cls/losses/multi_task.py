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
        A scalar; where no row is known 0, with a gradient of 0.
    """
    known = target >= 0
    if not known.any():
        return logits[:0].sum()  # not 0 * logits: of an infinite one that would be NaN
    value: Tensor = loss(logits[known], target[known])
    return value


def uncertainty_weighted(losses: Tensor, log_variance: Tensor) -> Tensor:
    """Losses weighted by what their tasks leave unexplained: ``sum(exp(-s) * L + s / 2)`` with s
    the logarithm of each task's variance (Kendall, Gal and Cipolla 2018, arXiv 1705.07115, for
    classification). In its minimum ``s = log(2 L)``.

    Args:
        losses, log_variance: ``[H]``.
    """
    return (torch.exp(-log_variance) * losses + log_variance / 2).sum()
