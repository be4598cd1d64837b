"""Decision thresholds for several labels, tuned on out-of-fold predictions.

They are written to a file that ``predict`` reads.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.config.border import keys_for_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import write_text_whole
from product_cls.core.tables import write_csv
from product_cls.ensemble.weights import random_parts
from product_cls.inference.predictions import Predictions
from product_cls.metrics.multi_label import multi_label_metrics
from product_cls.metrics.thresholds import (
    HALF,
    check_goal,
    per_label_thresholds,
    shared_threshold,
)
from product_cls.tasks.multi_label import UNKNOWN

HOW = ("per_label", "global", "half")
TUNERS: dict[str, Callable[[np.ndarray, np.ndarray, str], np.ndarray]] = {
    "global": shared_threshold,
    "per_label": per_label_thresholds,
}
SHOWN = ("accuracy", "f1_macro", "f1_micro", "exact", "mAP")


@dataclass(frozen=True)
class Decisions:
    """Predictions of several labels with their decision thresholds.

    Attributes:
        splits: the predictions; their task has the thresholds.
        how: the kind of thresholds, one of ``HOW``.
        thresholds: label -> threshold, in [0, 1].
        table: a row for each of ``HOW`` (without held-out pictures ``half`` only), with measures in
            per cent for each labelled split. For validation, each of ``weights.PARTS`` random parts
            is decided by thresholds tuned on the other parts.
    """

    splits: dict[str, Predictions]
    how: str
    thresholds: dict[str, float]
    table: pd.DataFrame

    def write(self, out: Path, *, csv: str = "plain") -> list[Path]:
        """Write ``thresholds.json`` and ``decisions.csv`` (in the style ``csv``) to ``out``."""
        files = [out / "thresholds.json", out / "decisions.csv"]
        content = {"how": self.how, "thresholds": self.thresholds}
        write_text_whole(files[0], json.dumps(content, indent=2) + "\n")
        write_csv(files[1], self.table.round(4), style=csv)
        return files


def tune_decisions(
    splits: Mapping[str, Predictions], how: str | None, goal: str = "accuracy"
) -> Decisions | None:
    """Tune decision thresholds for several labels on the validation split.

    Args:
        splits: blended predictions; ``val`` is out of fold.
        how: ``per_label``, ``global`` (one for all labels) or ``half``; None means ``global``, or
            ``half`` without a validation split. With 1,000 pictures, per-label thresholds fit noise
            as much as labels.
        goal: the measure to maximise, ``accuracy`` or ``f1``.

    Returns:
        None for predictions of one label per picture.

    Raises:
        UserError: an unknown ``how`` or ``goal``, no pictures to tune on, or either argument for
            one label per picture.
    """
    with keys_for_arguments():
        check_goal(goal)
    if how is not None and how not in HOW:
        raise UserError(f"thresholds={how}; allowed: {', '.join(HOW)}, or null.")
    task = next(iter(splits.values())).make_task()
    if not task.multi_label:
        for key, value, default in (("thresholds", how, None), ("goal", goal, "accuracy")):
            if value != default:
                raise UserError(f"{key}={value} is for runs of task=multi_label, not {task.name}.")
        return None
    tuned = {"half": np.full(len(task.classes), HALF)}
    held_out: dict[str, dict[str, float]] = {}
    if "val" in splits:
        labelled = (splits["val"].target != UNKNOWN).all(axis=1)
        scores, target = splits["val"].scores[labelled], splits["val"].target[labelled]
        tuned |= {name: tune(scores, target, goal) for name, tune in TUNERS.items()}
        held_out = _held_out(scores, target, goal)
    if how is None:
        how = "global" if "global" in tuned else "half"
    if how not in tuned:
        raise UserError(
            f"thresholds={how} is tuned on held-out pictures, and there are none (fold=all); use "
            "thresholds=half."
        )
    rows = []
    for name, values in tuned.items():
        row: dict[str, object] = {"thresholds": f"{name} (used)" if name == how else name}
        for split, part in splits.items():
            # In-sample thresholds would bias validation; use the cross-fitted ones.
            measures = held_out.get(name) if split == "val" else None
            if measures is None:
                measures = _decided(part, values).make_task().evaluate(part.scores, part.target)
            row |= {f"{split} {m}": 100 * measures[m] for m in SHOWN if m in measures}
        rows.append(row)
    return Decisions(
        splits={split: _decided(part, tuned[how]) for split, part in splits.items()},
        how=how,
        thresholds=dict(zip(task.classes, tuned[how].tolist(), strict=True)),
        table=pd.DataFrame(rows),
    )


def _held_out(scores: np.ndarray, target: np.ndarray, goal: str) -> dict[str, dict[str, float]]:
    """Cross-fitted measures of each of ``TUNERS``, for scores and targets ``[N, L]``."""
    part, thresholds = random_parts(len(scores)), np.empty(scores.shape)
    measured = {}
    for name, tune in TUNERS.items():
        for k in np.unique(part):
            others = part != k
            thresholds[~others] = tune(scores[others], target[others], goal)
        measured[name] = multi_label_metrics(scores, target, thresholds) if len(scores) else {}
    return measured


def _decided(predictions: Predictions, thresholds: np.ndarray) -> Predictions:
    return replace(predictions, task=predictions.task | {"thresholds": thresholds.tolist()})
