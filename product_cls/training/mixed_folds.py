"""Runs of one sweep that would hold out parts of different samples."""

from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.folds_file import read_folds
from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder


def check_sweep(folder: RunFolder, earlier: Path) -> None:
    """Refuse to go on with a sweep whose finished folds are of samples that have changed since.

    Its folds would belong to two splits, so they could not be blended. A run that has results of
    its own is trained anew instead: the whole sweep is then being repeated.

    Args:
        folder: of the run, beside the other runs of its sweep.
        earlier: the folds file of the samples as they were.

    Raises:
        UserError: naming a finished run, and what to do.
    """
    if folder.metrics_file.is_file():
        return
    try:
        folds = read_folds(earlier)
    except ValueError:
        return  # a damaged file of earlier folds says nothing about the other runs
    for status in sorted(folder.path.parent.glob("*/status.json")):
        run = RunFolder(status.parent)
        if run.state().kind == "done" and _held_out(run, folds):
            raise UserError(
                f"The run '{run.path.name}' of {run.path.parent} held out a fold of other samples: "
                f"they have changed since, so this run could not be blended with it; start a new "
                f"sweep with another name=..., or delete {earlier} to go on here, and then repeat "
                f"the other runs."
            )


def _held_out(run: RunFolder, folds: "pd.Series[int]") -> bool:
    """Whether a run's validation pictures are all of one of the folds."""
    file = run.predictions_file("val")
    if not file.is_file():
        return False
    try:
        ids = Predictions.load(file, stored=True).id
    except UserError:
        return False
    if not np.isin(ids, folds.index).all():
        return False
    numbers = folds[ids].unique()
    return len(numbers) == 1 and numbers[0] >= 0
