"""Losses beside torch's own, and weights of classes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.core.errors import UserError


class TripletLoss(nn.Module):
    """Triplet loss over the hard triplets of a batch, by pytorch-metric-learning.

    Batches need several pictures of a class: ``data.per_class``.

    Args:
        margin: by how much a picture of another class must be farther away, in
            Euclidean distance between embeddings of length 1, above 0.
        mining: ``hard`` | ``semihard`` | ``all``: triplets that break the margin at all.

    Raises:
        UserError: pytorch-metric-learning is not installed, or an unknown mining.
    """

    on_embeddings: ClassVar[bool] = True  # called with embeddings ``[B, D]``, not with logits

    def __init__(self, margin: float = 0.2, mining: str = "hard") -> None:
        super().__init__()
        try:
            from pytorch_metric_learning import losses, miners
        except ImportError:
            raise UserError(
                'loss=triplet needs pytorch-metric-learning: pip install "product-cls[retrieval]".'
            ) from None
        if mining not in (known := ("hard", "semihard", "all")):
            raise UserError(f"loss.mining={mining}; allowed: {', '.join(known)}.")
        if margin <= 0:
            raise UserError(f"loss.margin={margin}; it must be above 0.")
        self.miner: Any = miners.TripletMarginMiner(margin=margin, type_of_triplets=mining)
        self.loss: Any = losses.TripletMarginLoss(margin=margin)

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        """float32 ``[B, D]``, int64 ``[B]`` -> a scalar, 0 where no triplet breaks the margin."""
        value: Tensor = self.loss(embedding, target, self.miner(embedding, target))
        return value


class FocalLoss(nn.Module):
    """Cross entropy that easy pictures hardly count in: ``mean(-(1 - p)^gamma * log p)`` with p the
    right class's probability (Lin et al. 2017, arXiv 1708.02002).

    With smoothed targets q it is the sum of ``-q * (1 - p)^gamma * log p`` over the classes, so
    that gamma 0 is torch's cross entropy, weighted and smoothed alike.

    Args:
        gamma: 0 is cross entropy; the larger, the less counts what is right already.
        weight: of the classes, ``[C]``, 0 or more; None for equal ones. The mean is then weighted
            too, ``(loss * w).sum() / w.sum()`` with w the weights of the targets.
        label_smoothing: share of the target spread over all classes, in [0, 1].

    Raises:
        UserError: a value outside its range.
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
            raise UserError(f"loss.gamma={gamma}; it must be 0 or more.")
        if not 0 <= label_smoothing <= 1:
            raise UserError(f"loss.label_smoothing={label_smoothing}; allowed: 0 to 1.")
        self.gamma, self.label_smoothing = gamma, label_smoothing
        given = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)
        if given is not None and not bool(((given >= 0) & given.isfinite()).all()):
            raise UserError(f"loss.weight={given.tolist()}; allowed: 0 or more.")
        self.register_buffer("weight", given)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[B, C]``, int64 ``[B]`` -> a scalar."""
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
    """``1 - macro F1`` with probabilities for counts, so that it has a gradient.

    True positives, false positives and false negatives of a class are sums over the batch of
    ``p``, ``p`` and ``1 - p``. A class that the batch does not show has F1 0 and no gradient: with
    more classes than a batch holds, add cross entropy (``loss=sum``).

    F1 is no mean over pictures, so ``lam * L(y) + (1 - lam) * L(y[perm])`` is not the F1 of mixed
    labels. It can be trained with, but where cross entropy asks for scores of ``lam`` and
    ``1 - lam``, it asks for 1 and 0 as soon as ``lam`` is well above .5: the smaller share is not
    worth its false positives. Mixing then augments pictures and teaches no shares.

    Args:
        eps: keeps empty classes from dividing by 0.

    Raises:
        UserError: eps of 0 or less.
    """

    def __init__(self, eps: float = 1e-7) -> None:
        super().__init__()
        if eps <= 0:
            raise UserError(f"loss.eps={eps}; it must be above 0.")
        self.eps = eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[B, C]``, int64 ``[B]`` -> a scalar in [0, 1]."""
        p = torch.softmax(logits, dim=1)
        right = F.one_hot(target, logits.shape[1]).to(p)
        true_positive = (p * right).sum(dim=0)
        precision = true_positive / (p.sum(dim=0) + self.eps)
        recall = true_positive / (right.sum(dim=0) + self.eps)
        return 1.0 - (2 * precision * recall / (precision + recall + self.eps)).mean()


class SumLoss(nn.Module):
    """Weighted sum of losses over logits.

    Args:
        losses: name -> ``{"loss": module, "weight": factor}``, or None to leave that one out;
            factors are 0 or more and need not sum to 1.

    Raises:
        UserError: no loss, an entry of another form, or a loss over embeddings.
    """

    def __init__(self, losses: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__()
        self.parts, self.factors = nn.ModuleDict(), dict[str, float]()
        for name, entry in losses.items():
            if entry is None:
                continue
            if set(entry) != {"loss", "weight"}:
                raise UserError(
                    f"loss.losses.{name} has the keys {', '.join(entry) or 'none'}; "
                    f"allowed: loss and weight, both."
                )
            factor = entry["weight"]
            if not isinstance(factor, int | float) or not factor >= 0:
                raise UserError(f"loss.losses.{name}.weight={factor}; allowed: 0 or more.")
            if getattr(entry["loss"], "on_embeddings", False):
                raise UserError(
                    f"loss.losses.{name} is a loss over embeddings; a sum takes losses over logits."
                )
            self.parts[name], self.factors[name] = entry["loss"], float(factor)
        if not any(self.factors.values()):
            raise UserError("loss.losses holds no loss with a weight above 0; it needs one.")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[B, C]``, int64 ``[B]`` -> a scalar."""
        total = torch.zeros((), device=logits.device)
        for name, part in self.parts.items():
            total = total + self.factors[name] * part(logits, target)
        return total
