"""From probabilities of several labels to decisions: thresholds tuned on out-of-fold predictions,
and kept in a file that ``predict`` reads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.config.border import keys_for_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import write_text_whole
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
    """Predictions of several labels with thresholds to decide them by.

    Attributes:
        splits: the predictions, whose task has the thresholds.
        how: ``per_label`` | ``global`` | ``half``, which was chosen.
        thresholds: by label.
        table: a row a way of ``HOW`` (as far as there are pictures to tune on), measures in per
            cent of each split whose labels are known; of validation, each of ``weights.PARTS``
            random parts by thresholds tuned on the others.
    """

    splits: dict[str, Predictions]
    how: str
    thresholds: dict[str, float]
    table: pd.DataFrame

    def write(self, out: Path) -> list[Path]:
        """``thresholds.json`` and ``decisions.csv`` in ``out``."""
        files = [out / "thresholds.json", out / "decisions.csv"]
        content = {"how": self.how, "thresholds": self.thresholds}
        write_text_whole(files[0], json.dumps(content, indent=2) + "\n")
        write_text_whole(files[1], self.table.round(4).to_csv(index=False))
        return files


def tune_decisions(
    splits: Mapping[str, Predictions], how: str | None, goal: str = "accuracy"
) -> Decisions | None:
    """Thresholds for predictions of several labels, tuned on the validation part.

    Args:
        splits: blended predictions; ``val`` is out of fold.
        how: one threshold a label, one for all, or one half for each; None takes one for all, or
            one half where there is no validation part. Thresholds of their own fit the chance in
            1,000 pictures as much as the labels.
        goal: what is tuned for, ``accuracy`` or ``f1``.

    Returns:
        None for predictions of one label a picture.

    Raises:
        UserError: an unknown way or goal, nothing to tune on, or either for one label a picture.
    """
    with keys_for_arguments():
        check_goal(goal)
    if how is not None and how not in HOW:
        raise UserError(f"thresholds={how}; allowed: {', '.join(HOW)}, or null.")
    task = next(iter(splits.values())).make_task()
    if not task.multi_label:
        for key, given, default in (("thresholds", how, None), ("goal", goal, "accuracy")):
            if given != default:
                raise UserError(f"{key}={given} is for runs of task=multi_label, not {task.name}.")
        return None
    tuned = {"half": np.full(len(task.classes), HALF)}
    held_out: dict[str, dict[str, float]] = {}
    if "val" in splits:
        known = (splits["val"].target != UNKNOWN).all(axis=1)
        scores, target = splits["val"].scores[known], splits["val"].target[known]
        tuned |= {name: tune(scores, target, goal) for name, tune in TUNERS.items()}
        held_out = _held_out(scores, target, goal)
    if how is None:
        how = "global" if "global" in tuned else "half"
    if how not in tuned:
        raise UserError(
            f"thresholds={how} is tuned on pictures that runs held out, of which there are none "
            f"(fold=all); use thresholds=half."
        )
    rows = []
    for name, values in tuned.items():
        row: dict[str, object] = {"thresholds": f"{name} (used)" if name == how else name}
        for split, part in splits.items():
            # By the thresholds tuned on them, validation pictures look better than others will.
            found = held_out.get(name) if split == "val" else None
            if found is None:
                found = _decided(part, values).make_task().evaluate(part.scores, part.target)
            row |= {f"{split} {m}": 100 * found[m] for m in SHOWN if m in found}
        rows.append(row)
    return Decisions(
        splits={split: _decided(part, tuned[how]) for split, part in splits.items()},
        how=how,
        thresholds=dict(zip(task.classes, tuned[how].tolist(), strict=True)),
        table=pd.DataFrame(rows),
    )


def _held_out(scores: np.ndarray, target: np.ndarray, goal: str) -> dict[str, dict[str, float]]:
    """What each of ``TUNERS`` is worth on pictures that it does not see, ``[N, L]`` both."""
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
