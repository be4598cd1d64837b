"""Soft targets from finished runs: a vote, a joint system or one run as the teacher of another."""

from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError
from product_cls.ensemble.members import SPLITS, load_members
from product_cls.ensemble.system import blend_runs
from product_cls.inference.predictions import Predictions
from product_cls.inference.soft_targets import SoftTargets
from product_cls.runs.folder import RunFolder


def read_teacher(source: Path) -> SoftTargets:
    """The answers of a teacher.

    Pictures that runs held out get the answers of those runs (out of fold), with weight 1. Test
    pictures get the answers of all runs; their weight is the highest score.

    Args:
        source: a file of soft targets; a run; the folder that the ensemble command wrote; or a
            sweep, whose runs are blended (softmax runs vote, retrieval runs are joined).

    Raises:
        UserError: there is no such file or folder, a run in it has not finished, or the runs cannot
            be blended.
    """
    where = f"teacher={source}"
    if source.is_file():
        return SoftTargets.load(source)
    if not source.is_dir():
        raise UserError(
            f"{where}: there is no such file or folder; allowed: multirun/NAME, a run in it, an "
            f"ensemble's folder or a file of soft targets."
        )
    splits = _predictions(source, where)
    parts = [(splits[split], split == "test") for split in SPLITS if split in splits]
    first = parts[0][0]
    if first.scores.shape[1] < 2 or first.target.ndim > 1:
        raise UserError(
            f"{where} is of runs of task={first.task['name']}; allowed: runs with one label per "
            f"picture, of which each has a score."
        )
    scores = [_probabilities(part.scores) for part, _ in parts]
    # Held-out pictures have a label beside the answer; a test picture counts by its confidence.
    weights = [
        rows.max(axis=1) if test else np.ones(len(rows), np.float32)
        for rows, (_, test) in zip(scores, parts, strict=True)
    ]
    return SoftTargets(
        id=np.concatenate([part.id for part, _ in parts]),
        scores=np.concatenate(scores),
        weight=np.clip(np.concatenate(weights), 0, 1),
        classes=first.classes,
    )


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """Rows with sum 1; votes of neighbours can have other sums."""
    positive = np.maximum(scores.astype(np.float64), 0)
    sums = positive.sum(axis=1, keepdims=True)
    shares = np.divide(
        positive, sums, out=np.full_like(positive, 1 / scores.shape[1]), where=sums > 0
    )
    return shares.astype(np.float32)


def _predictions(source: Path, where: str) -> dict[str, Predictions]:
    """Predictions by split of a folder."""
    folder = RunFolder(source)
    own = {
        split: Predictions.load(file)
        for split in SPLITS
        if (file := folder.predictions_file(split)).is_file()
    }
    if not folder.status_file.exists() and own:  # an ensemble's folder
        return own
    try:
        runs, left_out = load_members([source])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if left_out:
        raise UserError(
            f"{where}: {len(left_out)} of {len(runs) + len(left_out)} runs cannot teach: "
            f"{'; '.join(left_out)}."
        )
    splits = blend_runs(runs, "mean").splits
    if not splits:
        raise UserError(f"{where} has no predictions.")
    return splits
