"""Losses beside torch's own, and weights of classes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.errors import UserError

EFFECTIVE_BETA = 0.999  # of Cui et al. 2019: past about 1,000 pictures more of them add nothing


def class_weights(
    counts: Sequence[int] | np.ndarray, kind: str = "log", *, key: str = "class_weights"
) -> np.ndarray:
    """Weights that let rare classes count, float32 ``[C]``, summing to C.

    Args:
        counts: training pictures of each class, 1 or more.
        kind: ``log``, 1 / log(1 + n); ``inverse``, 1 / n; ``effective``, one over the effective
            number of samples (Cui et al. 2019, arXiv 1901.05555).
        key: of the setting that asked for them, for messages.

    Raises:
        UserError: an unknown kind, or a class without pictures.
    """
    given = np.asarray(counts, dtype=np.float64)
    if len(given) == 0 or (given < 1).any():
        raise UserError("class_weights: every class needs at least 1 training picture.")
    kinds = {
        "log": lambda n: 1.0 / np.log1p(n),
        "inverse": lambda n: 1.0 / n,
        "effective": lambda n: (1.0 - EFFECTIVE_BETA) / (1.0 - EFFECTIVE_BETA**n),
    }
    if kind not in kinds:
        raise UserError(f"{key}={kind}; allowed: {', '.join(kinds)}.")
    weights = kinds[kind](given)
    return (weights / weights.sum() * len(weights)).astype(np.float32)


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


def weigh(loss: nn.Module, weights: np.ndarray, key: str = "task.weights") -> None:
    """Give a loss over classes its weights; of a sum, all parts that take some.

    Args:
        loss: is changed.
        weights: float32 ``[C]``.
        key: of the setting that asked for them, for messages.

    Raises:
        UserError: the loss takes none, or has its own.
    """
    parts: list[Any] = [*loss.parts.values()] if isinstance(loss, SumLoss) else [loss]
    taking = [part for part in parts if hasattr(part, "weight")]
    if not taking:
        raise UserError(f"{type(loss).__name__} takes no weights of classes; set {key}=null.")
    for part in taking:
        if part.weight is not None:
            raise UserError(f"Both loss.weight and {key} are set; one has to be null.")
        part.weight = torch.from_numpy(weights)


def check_weight_count(loss: nn.Module, classes: int, key: str = "loss") -> None:
    """torch says so only when the loss is called, which is after the pictures were decoded.

    Args:
        loss: over that many classes.
        classes: how many there are.
        key: of the loss, for the message.

    Raises:
        UserError: the loss has weights of its own for another number of classes.
    """
    for part in loss.modules():
        own = getattr(part, "weight", None)
        if isinstance(own, Tensor) and len(own) != classes:
            raise UserError(
                f"{key}.weight has {len(own)} weights for {classes} classes; give one for each, "
                f"or null."
            )


def check_smoothing(loss: nn.Module) -> None:
    """torch says so only when the loss is called, which is after the pictures were decoded.

    Raises:
        UserError: a label smoothing outside [0, 1].
    """
    for part in loss.modules():
        smoothing = getattr(part, "label_smoothing", 0.0)
        if not 0 <= smoothing <= 1:
            raise UserError(f"loss.label_smoothing={smoothing}; allowed: 0 to 1.")


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
