"""Class weights of losses, and early checks of values that torch checks only in a call."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from product_cls.losses.single_label import loss_parts, set_part_weights

EFFECTIVE_BETA = (
    0.999  # Cui et al. 2019: beyond about 1,000, further pictures of a class add nothing
)


def class_weights(counts: Sequence[int] | np.ndarray, kind: str = "log") -> np.ndarray:
    """Class weights that give rare classes more weight.

    Args:
        counts: number of training pictures of each class, int ``[C]``, 1 or more.
        kind: ``log``, 1 / log(1 + n); ``inverse``, 1 / n; ``effective``, one over the effective
            number of samples (Cui et al. 2019, arXiv 1901.05555).

    Returns:
        float32 ``[C]``, above 0, with sum C.

    Raises:
        ValueError: an unknown kind, or a class without pictures.
    """
    kinds = {
        "log": lambda n: 1.0 / np.log1p(n),
        "inverse": lambda n: 1.0 / n,
        "effective": lambda n: (1.0 - EFFECTIVE_BETA) / (1.0 - EFFECTIVE_BETA**n),
    }
    if kind not in kinds:
        raise ValueError(f"kind={kind}; allowed: {', '.join(kinds)}.")
    numbers = np.asarray(counts, dtype=np.float64)
    if len(numbers) == 0 or (numbers < 1).any():
        raise ValueError(f"kind={kind}: every class needs at least 1 training picture.")
    weights = kinds[kind](numbers)
    return (weights / weights.sum() * len(weights)).astype(np.float32)


def set_class_weights(loss: nn.Module, weights: np.ndarray) -> None:
    """Set the class weights of a loss, or of all parts of a sum that take them.

    Args:
        loss: modified in place.
        weights: float32 ``[C]``.

    Raises:
        ValueError: the loss takes no class weights, or already has some.
    """
    set_part_weights(loss, "weight", weights, "class weights")


def check_weight_count(loss: nn.Module, classes: int) -> None:
    """Refuse class weights for another number of classes before pictures are decoded.

    Args:
        loss: a loss over classes.
        classes: number of classes.

    Raises:
        ValueError: about the argument ``weight`` of the loss or of a part of it.
    """
    for name, part in loss_parts(loss).items():
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and len(weight) != classes:
            argument = f"{name}.weight".removeprefix(".")
            raise ValueError(
                f"{argument}={weight.tolist()} has {len(weight)} weights for {classes} classes; "
                f"allowed: one for each class, or null."
            )


def check_smoothing(loss: nn.Module) -> None:
    """Refuse a label smoothing of torch's cross entropy outside [0, 1] before pictures are decoded.

    Raises:
        ValueError: about the argument ``label_smoothing`` of the loss or of a part of it.
    """
    for name, part in loss_parts(loss).items():
        if isinstance(part, nn.CrossEntropyLoss) and not 0 <= part.label_smoothing <= 1:
            argument = f"{name}.label_smoothing".removeprefix(".")
            raise ValueError(f"{argument}={part.label_smoothing}; allowed: 0 to 1.")
