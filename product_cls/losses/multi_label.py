"""Losses over independent labels, in addition to torch's ``BCEWithLogitsLoss``, and their weights.

All take logits float ``[B, L]`` and targets float ``[B, L]``, in [0, 1], and return the mean over
both axes.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.losses.single_label import loss_parts, set_part_weights

# Names of losses over several labels, for messages.
SEVERAL_LABELS = ("BCEWithLogitsLoss", "FocalBCELoss", "AsymmetricLoss")


class FocalBCELoss(nn.Module):
    """Binary cross entropy that gives easy labels little weight.

    ``-a_t * (1 - p_t)^gamma * log p_t``, with p_t the probability of the true value (Lin et al.
    2017, arXiv 1708.02002).

    Args:
        gamma: 0 is cross entropy; larger values give less weight to labels that are already right.
        alpha: weight of present labels, in [0, 1], against ``1 - alpha`` of absent ones; None for
            equal weights.

    Raises:
        ValueError: a value outside its range.
    """

    several_labels: ClassVar[bool] = True
    pos_weight: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma={gamma}; allowed: 0 or more.")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}; allowed: 0 to 1, or null.")
        self.gamma, self.alpha = gamma, alpha
        self.register_buffer("pos_weight", None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits float ``[B, L]`` and targets float ``[B, L]`` -> a scalar."""
        present_weight, absent_weight = (
            (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        )
        if_present = _term(logits, self.gamma) * present_weight
        if_absent = _term(-logits, self.gamma) * absent_weight
        return _mean(if_present, if_absent, target, self.pos_weight)


class AsymmetricLoss(nn.Module):
    """Binary cross entropy that focuses more on hard absent labels than on hard present ones.

    ``-(1 - p)^gamma_pos * log p`` for present labels and ``-p_m^gamma_neg * log(1 - p_m)`` with
    ``p_m = max(p - clip, 0)`` for absent ones (Ridnik et al. 2021, arXiv 2009.14119).

    Args:
        gamma_pos, gamma_neg: focus of present and absent labels, 0 or more.
        clip: probability up to which an absent label is ignored, in [0, 1).

    Raises:
        ValueError: a value outside its range.
    """

    several_labels: ClassVar[bool] = True
    pos_weight: Tensor | None

    def __init__(self, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05) -> None:
        super().__init__()
        for name, value in (("gamma_pos", gamma_pos), ("gamma_neg", gamma_neg)):
            if value < 0:
                raise ValueError(f"{name}={value}; allowed: 0 or more.")
        if not 0 <= clip < 1:
            raise ValueError(f"clip={clip}; allowed: 0 to 1, without 1.")
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip
        self.register_buffer("pos_weight", None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits float ``[B, L]`` and targets float ``[B, L]`` -> a scalar."""
        if_present = _term(logits, self.gamma_pos)
        if self.clip == 0:
            if_absent = _term(-logits, self.gamma_neg)
        else:
            absent = (torch.sigmoid(-logits) + self.clip).clamp(max=1.0)  # 1 - p_m
            if_absent = -_power(1.0 - absent, self.gamma_neg) * absent.log()
        return _mean(if_present, if_absent, target, self.pos_weight)


def _term(logits: Tensor, gamma: float) -> Tensor:
    """``-(1 - p)^gamma * log p`` with p the sigmoid."""
    return -_power(torch.sigmoid(-logits), gamma) * F.logsigmoid(logits)


def _power(base: Tensor, gamma: float) -> Tensor:
    # Without the clamp, the power of an exact 0 has an infinite gradient for gamma below 1.
    return base.clamp(min=torch.finfo(base.dtype).tiny) ** gamma


def _mean(present: Tensor, absent: Tensor, target: Tensor, pos_weight: Tensor | None) -> Tensor:
    if pos_weight is not None:
        present = present * pos_weight
    return (target * present + (1.0 - target) * absent).mean()


def _over_labels(part: nn.Module) -> bool:
    torch_losses = (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
    return isinstance(part, torch_losses) or getattr(part, "several_labels", False)


def takes_several_labels(loss: nn.Module) -> bool:
    """Whether a loss, or every part of a sum, is over independent labels."""
    return all(map(_over_labels, loss_parts(loss).values()))


def takes_one_label(loss: nn.Module) -> bool:
    """Whether a loss, or every part of a sum, is over classes that exclude each other."""
    return not any(map(_over_labels, loss_parts(loss).values()))


def balanced_weights(targets: np.ndarray) -> np.ndarray:
    """Weights of present labels that make up for their rarity: absent / present.

    Args:
        targets: int or float ``[N, L]``, 0 or 1; each label is present in some pictures and absent
            from others.

    Returns:
        float32 ``[L]``, above 0.
    """
    present = targets.sum(axis=0, dtype=np.float64)
    return ((len(targets) - present) / present).astype(np.float32)


def set_present_weights(loss: nn.Module, weights: np.ndarray) -> None:
    """Set the weights of present labels of a loss, or of all parts of a sum that take them.

    Args:
        loss: modified in place.
        weights: float32 ``[L]``.

    Raises:
        ValueError: the loss takes no such weights, or already has some.
    """
    set_part_weights(loss, "pos_weight", weights, "weights of labels")
