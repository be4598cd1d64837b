"""Losses over several labels a picture beside torch's ``BCEWithLogitsLoss``, and weights of labels.

All take logits ``[B, L]`` and targets in [0, 1] ``[B, L]``, and give the mean over both.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.core.errors import UserError
from product_cls.losses.single_label import SumLoss


class FocalBCELoss(nn.Module):
    """Binary cross entropy that easy labels hardly count in: ``-a_t * (1 - p_t)^gamma * log p_t``
    with p_t the probability of what is right (Lin et al. 2017, arXiv 1708.02002).

    Args:
        gamma: 0 is cross entropy; the larger, the less counts what is right already.
        alpha: weight of labels that are present, in [0, 1], against ``1 - alpha`` of those that are
            not; None for equal ones.

    Raises:
        UserError: a value outside its range.
    """

    several_labels: ClassVar[bool] = True
    pos_weight: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise UserError(f"loss.gamma={gamma}; it must be 0 or more.")
        if alpha is not None and not 0 <= alpha <= 1:
            raise UserError(f"loss.alpha={alpha}; allowed: 0 to 1, or null.")
        self.gamma, self.alpha = gamma, alpha
        self.register_buffer("pos_weight", None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[B, L]``, ``[B, L]`` -> a scalar."""
        present, absent = self.alpha, None if self.alpha is None else 1 - self.alpha
        first = _term(logits, self.gamma) * (1.0 if present is None else present)
        second = _term(-logits, self.gamma) * (1.0 if absent is None else absent)
        return _mean(first, second, target, self.pos_weight)


class AsymmetricLoss(nn.Module):
    """Binary cross entropy that focuses absent labels harder than present ones (Ridnik et al. 2021,
    arXiv 2009.14119): ``-(1 - p)^gamma_pos * log p`` and ``-p_m^gamma_neg * log(1 - p_m)`` with
    ``p_m = max(p - clip, 0)``.

    Args:
        gamma_pos, gamma_neg: focus of present and absent labels, 0 or more.
        clip: probability below which an absent label counts nothing, in [0, 1).

    Raises:
        UserError: a value outside its range.
    """

    several_labels: ClassVar[bool] = True
    pos_weight: Tensor | None

    def __init__(self, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05) -> None:
        super().__init__()
        for name, value in (("gamma_pos", gamma_pos), ("gamma_neg", gamma_neg)):
            if value < 0:
                raise UserError(f"loss.{name}={value}; it must be 0 or more.")
        if not 0 <= clip < 1:
            raise UserError(f"loss.clip={clip}; allowed: 0 to 1, without 1.")
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip
        self.register_buffer("pos_weight", None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[B, L]``, ``[B, L]`` -> a scalar."""
        first = _term(logits, self.gamma_pos)
        if self.clip == 0:
            second = _term(-logits, self.gamma_neg)
        else:
            right = (torch.sigmoid(-logits) + self.clip).clamp(max=1.0)  # 1 - p_m
            second = -_power(1.0 - right, self.gamma_neg) * right.log()
        return _mean(first, second, target, self.pos_weight)


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


def _parts(loss: nn.Module) -> list[Any]:
    return [*loss.parts.values()] if isinstance(loss, SumLoss) else [loss]


def _over_labels(part: nn.Module) -> bool:
    own = (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
    return isinstance(part, own) or getattr(part, "several_labels", False)


def takes_several_labels(loss: nn.Module) -> bool:
    """Whether a loss is over independent labels; a sum, if all of its parts are."""
    return all(map(_over_labels, _parts(loss)))


def takes_one_label(loss: nn.Module) -> bool:
    """Whether a loss is over classes of which one is right; a sum, if all of its parts are."""
    return not any(map(_over_labels, _parts(loss)))


def balance(targets: np.ndarray) -> np.ndarray:
    """Weights of present labels that make up for their rarity: absent by present, float32 ``[L]``.

    Args:
        targets: 0 or 1, ``[N, L]``, each label in some pictures and not in all.
    """
    present = targets.sum(axis=0, dtype=np.float64)
    return ((len(targets) - present) / present).astype(np.float32)


def weigh_present(loss: nn.Module, weights: np.ndarray) -> None:
    """Give a loss weights of present labels; of a sum, all parts that take some.

    Raises:
        UserError: the loss takes none, or has its own.
    """
    taking = [part for part in _parts(loss) if hasattr(part, "pos_weight")]
    if not taking:
        raise UserError(f"{type(loss).__name__} takes no weights of labels; set task.weights=null.")
    for part in taking:
        if part.pos_weight is not None:
            raise UserError("Both loss.pos_weight and task.weights are set; one has to be null.")
        part.pos_weight = torch.from_numpy(weights)
