"""Metrics computed once over an epoch instead of averaged over batches."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


def macro_f1(decided: np.ndarray, target: np.ndarray) -> float:
    """Mean F1 of the classes that occur among decisions or targets.

    Args:
        decided, target: int ``[N]``, N of 1 or more; or int ``[N, H]``, where each distinct row is
            a class.

    Returns:
        In [0, 1].
    """
    # Imported here because most jobs need no F1.
    from sklearn.metrics import f1_score

    combined = np.concatenate([decided, target])
    _, codes = np.unique(combined, axis=0, return_inverse=True)
    decided_codes, target_codes = np.split(codes.reshape(-1), 2)
    return float(f1_score(target_codes, decided_codes, average="macro"))


class MacroF1(Metric):
    """``macro_f1`` of the best-scored classes, from counts instead of all scores.

    Args:
        classes: number of classes.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    decided: Tensor
    truth: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("hits", "decided", "truth"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Add the scores float ``[B, C]`` and targets int64 ``[B]`` of a batch; negative targets
        are classes that cannot be decided."""
        decided, count = scores.argmax(dim=1), len(self.hits)
        self.hits += torch.bincount(target[decided == target], minlength=count)
        self.decided += torch.bincount(decided, minlength=count)
        self.truth += torch.bincount(target[target >= 0], minlength=count)

    def compute(self) -> Tensor:
        """The mean F1 of the classes that occur among decisions or targets, a scalar."""
        both = self.decided + self.truth
        return (2 * self.hits[both > 0] / both[both > 0]).mean()


class EpochMetric(Metric):
    """A function of all scores and targets of an epoch, as a torchmetrics metric.

    Args:
        function: scores float ``[N, C]`` and targets int64 ``[N, ...]`` -> values by name, some of
            which may be missing.
        monitor: name of the value that selects the best checkpoint; NaN if it is missing.
    """

    full_state_update = False
    scores: list[Tensor]
    target: list[Tensor]

    def __init__(
        self, function: Callable[[np.ndarray, np.ndarray], dict[str, float]], monitor: str
    ) -> None:
        super().__init__()
        self.function, self.monitor = function, monitor
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Add the scores float ``[B, C]`` and targets int64 ``[B, ...]`` of a batch."""
        self.scores.append(scores.detach())
        self.target.append(target)

    def compute(self) -> dict[str, Tensor]:
        """The function's values as scalars by name, always including ``monitor``."""
        scores, target = dim_zero_cat(self.scores), dim_zero_cat(self.target)
        values = self.function(scores.cpu().numpy(), target.cpu().numpy())
        with_monitor = {self.monitor: float("nan"), **values}
        return {name: torch.tensor(value) for name, value in with_monitor.items()}
