"""Losses over classes that exclude each other, in addition to torch's own."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.core.extras import missing_extra
from product_cls.losses.distill import Distill

MINING = ("hard", "semihard", "all")


class TripletLoss(nn.Module):
    """Triplet loss over the hard triplets of a batch, by pytorch-metric-learning.

    It needs batches with several pictures of each class.

    Args:
        margin: how much farther away a picture of another class must be, above 0; Euclidean
            distance between embeddings of length 1.
        mining: ``hard`` | ``semihard`` | ``all``, which takes every triplet that breaks the margin.

    Raises:
        ValueError: a value outside its range.
        UserError: pytorch-metric-learning is not installed.
    """

    on_embeddings: ClassVar[bool] = True  # takes embeddings ``[B, D]`` instead of logits

    def __init__(self, margin: float = 0.2, mining: str = "hard") -> None:
        super().__init__()
        try:
            from pytorch_metric_learning import losses, miners
        except ImportError:
            raise missing_extra(
                "The triplet loss needs pytorch-metric-learning", "retrieval"
            ) from None
        if mining not in MINING:
            raise ValueError(f"mining={mining}; allowed: {', '.join(MINING)}.")
        if margin <= 0:
            raise ValueError(f"margin={margin}; allowed: above 0.")
        self.miner: Any = miners.TripletMarginMiner(margin=margin, type_of_triplets=mining)
        self.loss: Any = losses.TripletMarginLoss(margin=margin)

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Embeddings float32 ``[B, D]`` and targets int64 ``[B]`` -> a scalar, 0 if no triplet
        breaks the margin."""
        value: Tensor = self.loss(embedding, target, self.miner(embedding, target))
        return value


class FocalLoss(nn.Module):
    """Cross entropy that gives easy pictures little weight.

    ``mean(-(1 - p)^gamma * log p)``, with p the probability of the true class (Lin et al. 2017,
    arXiv 1708.02002). With smoothed
    targets q, it is the sum of ``-q * (1 - p)^gamma * log p`` over the classes, so
    that gamma 0 equals torch's cross entropy, also with weights and smoothing.

    Args:
        gamma: 0 is cross entropy; larger values give less weight to pictures that are already
            right.
        weight: class weights, ``[C]``, 0 or more; None for equal weights. The mean is
            then weighted, too: ``(loss * w).sum() / w.sum()`` with w the weights of the targets.
        label_smoothing: share of the target to spread over all classes, in [0, 1].

    Raises:
        ValueError: a value outside its range.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma={gamma}; allowed: 0 or more.")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}; allowed: 0 to 1.")
        self.gamma, self.label_smoothing = gamma, label_smoothing
        weights = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)
        if weights is not None and not bool(((weights >= 0) & weights.isfinite()).all()):
            raise ValueError(f"weight={weights.tolist()}; allowed: 0 or more.")
        self.register_buffer("weight", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits float ``[B, C]`` and targets int64 ``[B]`` -> a scalar."""
        log_p = F.log_softmax(logits, dim=1)
        classes = logits.shape[1]
        share = F.one_hot(target, classes).to(log_p) * (1.0 - self.label_smoothing)
        share = share + self.label_smoothing / classes
        # Without the clamp, the power of an exact 0 has an infinite gradient for gamma below 1.
        wrong = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        losses = -share * wrong**self.gamma * log_p
        if self.weight is None:
            return losses.sum(dim=1).mean()
        return (losses * self.weight).sum() / self.weight[target].sum()


class SoftF1Loss(nn.Module):
    """``1 - macro F1``, with probabilities instead of counts so that it has a gradient.

    True positives, false positives and false negatives of a class are sums over the batch of
    ``p``, ``p`` and ``1 - p``. A class without a picture in the batch has F1 0 and no gradient:
    with more classes than a batch holds, add cross entropy (``SumLoss``).

    F1 is not a mean over pictures, so ``lam * L(y) + (1 - lam) * L(y[perm])`` is not the F1 of
    mixed labels. Training with it works, but it has another optimum: cross entropy wants scores of
    ``lam`` and ``1 - lam``; this loss wants 1 and 0 as soon as ``lam`` is well above .5, because
    the smaller share is not worth its false positives. Mixing then augments pictures but does not
    teach shares.

    Args:
        eps: avoids division by 0 for empty classes, above 0.

    Raises:
        ValueError: eps of 0 or less.
    """

    def __init__(self, eps: float = 1e-7) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps={eps}; allowed: above 0.")
        self.eps = eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits float ``[B, C]`` and targets int64 ``[B]`` -> a scalar in [0, 1]."""
        p = torch.softmax(logits, dim=1)
        truth = F.one_hot(target, logits.shape[1]).to(p)
        true_positive = (p * truth).sum(dim=0)
        precision = true_positive / (p.sum(dim=0) + self.eps)
        recall = true_positive / (truth.sum(dim=0) + self.eps)
        return 1.0 - (2 * precision * recall / (precision + recall + self.eps)).mean()


class SumLoss(nn.Module):
    """Weighted sum of losses over logits.

    Args:
        losses: name -> ``{"loss": module, "weight": factor}``, or None to leave it out;
            factors are 0 or more and need not sum to 1.

    Raises:
        ValueError: no loss, an entry of another form, or a loss over embeddings.
    """

    def __init__(self, losses: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__()
        self.parts, self.factors = nn.ModuleDict(), dict[str, float]()
        for name, entry in losses.items():
            if entry is None:
                continue
            if set(entry) != {"loss", "weight"}:
                raise ValueError(
                    f"losses.{name}={{{', '.join(entry)}}}; allowed: the two keys loss and weight."
                )
            factor = entry["weight"]
            if not isinstance(factor, int | float) or not factor >= 0:
                raise ValueError(f"losses.{name}.weight={factor}; allowed: 0 or more.")
            if getattr(entry["loss"], "on_embeddings", False):
                raise ValueError(
                    f"losses.{name}.loss={type(entry['loss']).__name__} is over embeddings; "
                    f"allowed in a sum: losses over logits."
                )
            self.parts[name], self.factors[name] = entry["loss"], float(factor)
        if not any(self.factors.values()):
            raise ValueError(
                f"losses={{{', '.join(self.factors)}}}; allowed: at least one loss with a weight "
                f"above 0."
            )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits float ``[B, C]`` and targets int64 ``[B]`` -> a scalar."""
        total = torch.zeros((), device=logits.device)
        for name, part in self.parts.items():
            total = total + self.factors[name] * part(logits, target)
        return total


def loss_parts(loss: nn.Module) -> dict[str, nn.Module]:
    """The losses that a ``SumLoss`` or ``Distill`` consists of, or the loss itself.

    Returns:
        Argument of each part, dotted (``losses.focal.loss``) -> the part. A loss that is neither
        is the only part, with the argument "".
    """
    if isinstance(loss, Distill):
        inside = loss_parts(loss.loss).items()
        return {f"loss.{name}".rstrip("."): module for name, module in inside}
    if not isinstance(loss, SumLoss):
        return {"": loss}
    return {
        f"losses.{name}.loss.{inner}".rstrip("."): module
        for name, part in loss.parts.items()
        for inner, module in loss_parts(part).items()
    }


def set_part_weights(loss: nn.Module, attribute: str, weights: np.ndarray, meaning: str) -> None:
    """Set the weights of a loss, or of all parts of a sum that take them.

    Args:
        loss: modified in place.
        attribute: name of the parts' weights.
        weights: float32 ``[C]``.
        meaning: what the weights are, for the message.

    Raises:
        ValueError: no part takes such weights, or one already has some.
    """
    parts: list[Any] = [part for part in loss_parts(loss).values() if hasattr(part, attribute)]
    if not parts:
        raise ValueError(f"{type(loss).__name__} takes no {meaning}; allowed: null.")
    for part in parts:
        if getattr(part, attribute) is not None:
            raise ValueError(
                f"the loss has its own {attribute} already; set one of the two to null."
            )
        setattr(part, attribute, torch.from_numpy(weights))
