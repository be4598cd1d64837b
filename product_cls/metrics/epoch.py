"""Measures of decisions, and as torchmetrics: once over an epoch, never a mean of batches."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


def macro_f1(decided: np.ndarray, target: np.ndarray) -> float:
    """Mean F1 of the classes that are decided or right somewhere; others are left out.

    Args:
        decided, target: int ``[N]``, N of 1 or more; or ``[N, H]``, whose rows then are classes.
    """
    # Imported here: most jobs have no F1 to measure.
    from sklearn.metrics import f1_score

    both = np.concatenate([decided, target])
    _, codes = np.unique(both, axis=0, return_inverse=True)
    said, right = np.split(codes.reshape(-1), 2)
    return float(f1_score(right, said, average="macro"))


class EpochMeasure(Metric):
    """A measure of all of an epoch's scores and targets, by name.

    Args:
        measure: scores ``[N, C]`` and targets ``[N, ...]`` -> values by name; some may be missing.
        monitor: name of the value by which checkpoints are chosen, NaN where it is missing.
    """

    full_state_update = False
    scores: list[Tensor]
    target: list[Tensor]

    def __init__(
        self, measure: Callable[[np.ndarray, np.ndarray], dict[str, float]], monitor: str
    ) -> None:
        super().__init__()
        self.measure, self.monitor = measure, monitor
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, target: Tensor) -> None:
        self.scores.append(scores.detach())
        self.target.append(target)

    def compute(self) -> dict[str, Tensor]:
        scores, target = dim_zero_cat(self.scores), dim_zero_cat(self.target)
        values = self.measure(scores.cpu().numpy(), target.cpu().numpy())
        named = {self.monitor: float("nan"), **values}
        return {name: torch.tensor(value) for name, value in named.items()}
