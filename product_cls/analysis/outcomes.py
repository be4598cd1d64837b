"""Which test pictures a finished run classified correctly. Scores are dropped to save memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError
from product_cls.data.fold_names import view_name
from product_cls.inference.predictions import Predictions


@dataclass(frozen=True)
class Pictures:
    """The N test pictures that all runs of a table share.

    Attributes:
        id: text ``[N]``, sorted.
        product: int ``[N]``, 0 to C - 1 without gaps; pictures of one target share a number.
        name: text ``[N]``, names of the products.
        view: text ``[N]``, names of the views; "" if unknown.
    """

    id: np.ndarray
    product: np.ndarray
    name: np.ndarray
    view: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """A run's decisions, in the order of its ``Pictures``.

    Attributes:
        correct: float64 ``[N]``, 0 or 1.
        decided: text ``[N]``, names of products.
    """

    correct: np.ndarray
    decided: np.ndarray


def read_outcome(file: Path, *, tta: bool) -> tuple[Pictures, Outcome]:
    """The pictures with a known label, sorted by id, and the run's decisions on them.

    Args:
        file: predictions of a run, ``predictions/SPLIT.npz``.
        tta: whether to decide by the scores averaged over test-time augmentation, or by those of
            the unaugmented pictures.

    Raises:
        UserError: no such file, no picture with a known label, or a task without accuracy.
    """
    predictions = Predictions.load(file)
    return outcome_of(predictions if tta else predictions.without_tta(), str(file))


def outcome_of(predictions: Predictions, source: str) -> tuple[Pictures, Outcome]:
    """``read_outcome`` of predictions in memory.

    Args:
        predictions: of one run or of a blend.
        source: name of the file or of the blend, for messages.

    Raises:
        UserError: no picture with a known label, or a task without accuracy.
    """
    task = predictions.make_task()
    if task.multi_label:
        raise UserError(
            f"{source} has several labels per picture, but this report needs one. metrics.json and "
            "product_cls.ensemble have the metrics of such runs."
        )
    decided = np.asarray(task.decide(predictions.scores)).astype(np.str_)
    flat = predictions.target.reshape(len(predictions.id), -1)
    targets, target = np.unique(flat, axis=0, return_inverse=True)
    target = target.reshape(-1)
    # The task determines whether a picture counts and is correct. It is called once per pair of
    # target and decision, because a call for each of, say, 72,000 pictures would be slow.
    _, decision = np.unique(decided, return_inverse=True)
    pairs, first, pair = np.unique(
        target * (decision.max(initial=0) + 1) + decision, return_index=True, return_inverse=True
    )
    pair_accuracy = np.full(len(pairs), np.nan)
    for k, row in enumerate(first):
        metrics = task.evaluate(predictions.scores[[row]], predictions.target[[row]])
        if metrics and "accuracy" not in metrics:
            raise UserError(f"{source}: its task measures {', '.join(metrics)}, not accuracy.")
        pair_accuracy[k] = metrics.get("accuracy", np.nan)
    correct = pair_accuracy[pair.reshape(-1)]
    labelled = np.flatnonzero(~np.isnan(correct))
    if not len(labelled):
        raise UserError(f"{source} has no picture with a known label, so there is no accuracy.")
    rows = labelled[np.argsort(predictions.id[labelled], kind="stable")]
    views = np.full(len(predictions.id), "", dtype=object)
    if predictions.view is not None:
        # An unknown view is NaN, the only value that differs from itself.
        views = np.array([view_name(v) if v == v else "" for v in predictions.view], dtype=object)
    names = [
        task.target_name(value)
        if predictions.target.ndim > 1
        else _target_name(value, predictions.classes)
        for value in targets
    ]
    pictures = Pictures(
        id=predictions.id[rows],
        product=np.unique(target[rows], return_inverse=True)[1].reshape(-1),
        name=np.array(names)[target[rows]],
        view=views[rows].astype(np.str_),
    )
    return pictures, Outcome(correct[rows], decided[rows])


def _target_name(value: np.ndarray, classes: np.ndarray) -> str:
    in_training = 0 <= value[0] < len(classes)
    return str(classes[int(value[0])]) if in_training else "unknown to training"


def check_same(first_run: str, first: Pictures, second_run: str, second: Pictures) -> None:
    """Check that two runs of a table were tested on the same pictures with the same labels.

    Raises:
        UserError: their pictures or labels differ.
    """
    if not np.array_equal(first.id, second.id):
        common = len(np.intersect1d(first.id, second.id))
        raise UserError(
            f"Runs '{first_run}' and '{second_run}' cannot be in one table: they were tested on "
            f"different pictures ({len(first.id)} and {len(second.id)}, {common} in both)."
        )
    if (differing := int((first.name != second.name).sum())) > 0:
        raise UserError(
            f"Runs '{first_run}' and '{second_run}' cannot be in one table: {differing} test "
            "pictures have different labels in the two runs."
        )
