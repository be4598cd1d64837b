"""Losses beside torch's own, and weights of classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from product_cls.errors import UserError

EFFECTIVE_BETA = 0.999  # of Cui et al. 2019: past about 1,000 pictures more of them add nothing


def class_weights(counts: Sequence[int] | np.ndarray, kind: str = "log") -> np.ndarray:
    """Weights that let rare classes count, float32 ``[C]``, summing to C.

    Args:
        counts: training pictures of each class, 1 or more.
        kind: ``log``, 1 / log(1 + n); ``inverse``, 1 / n; ``effective``, one over the effective
            number of samples (Cui et al. 2019, arXiv 1901.05555).

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
        raise UserError(f"class_weights={kind}; allowed: {', '.join(kinds)}.")
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


def weigh(loss: nn.Module, weights: np.ndarray) -> None:
    """Give a loss over classes its weights.

    Raises:
        UserError: the loss takes none, or has its own.
    """
    if not hasattr(loss, "weight"):
        raise UserError(f"task.class_weights: {type(loss).__name__} takes no weights of classes.")
    if getattr(loss, "weight", None) is not None:
        raise UserError("Both loss.weight and task.class_weights are set; one has to be null.")
    loss.weight = torch.from_numpy(weights)
