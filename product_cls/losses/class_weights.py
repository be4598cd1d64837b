"""Class weights, and checks of a loss's own weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from product_cls.core.errors import UserError
from product_cls.losses.single_label import SumLoss

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
