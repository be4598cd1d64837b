"""What a finished run did on the test part, in little memory: scores are not kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions, view_name
from product_cls.tasks.multi_label import MultiLabel


@dataclass(frozen=True)
class Pictures:
    """The test pictures that all runs of a table share, N of them.

    Attributes:
        id: ``[N]``, sorted.
        product: int ``[N]``, pictures of one target share a number, without gaps.
        name: ``[N]``, of the product.
        view: ``[N]``, names of views, "" where unknown.
    """

    id: np.ndarray
    product: np.ndarray
    name: np.ndarray
    view: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """A run's decisions, for its ``Pictures``.

    Attributes:
        correct: float ``[N]``, 0 or 1.
        decided: ``[N]``, names of products.
    """

    correct: np.ndarray
    decided: np.ndarray


def read_outcome(file: Path, *, tta: bool) -> tuple[Pictures, Outcome]:
    """Pictures whose label is known, by id, and how the run did on them.

    Args:
        file: ``predictions/test.npz``.
        tta: of the scores averaged over test-time augmentation, or of the pictures as they are.

    Raises:
        UserError: no such file, no picture with a known label, or a task without accuracy.
    """
    predictions = Predictions.load(file)
    if not tta:
        predictions = predictions.without_tta()
    task = predictions.make_task()
    if isinstance(task, MultiLabel):
        raise UserError(
            f"{file} has several labels a picture, and what is reported by picture is for one; "
            f"metrics.json and product_cls.ensemble have the measures."
        )
    decided = np.asarray(task.decide(predictions.scores)).astype(np.str_)
    flat = predictions.target.reshape(len(predictions.id), -1)
    targets, target = np.unique(flat, axis=0, return_inverse=True)
    target = target.reshape(-1)
    # Whether a picture counts, and as what, is the task's to say. It is asked once for each pair of
    # target and decision, not for each of 72,000 pictures.
    _, decision = np.unique(decided, return_inverse=True)
    pairs, first, pair = np.unique(
        target * (decision.max(initial=0) + 1) + decision, return_index=True, return_inverse=True
    )
    values = np.full(len(pairs), np.nan)
    for k, row in enumerate(first):
        said = task.evaluate(predictions.scores[[row]], predictions.target[[row]])
        if said and "accuracy" not in said:
            raise UserError(f"{file}: its task measures {', '.join(said)}, not accuracy.")
        values[k] = said.get("accuracy", np.nan)
    correct = values[pair.reshape(-1)]
    known = np.flatnonzero(~np.isnan(correct))
    if not len(known):
        raise UserError(f"{file} has no picture whose label is known: accuracy cannot be had.")
    rows = known[np.argsort(predictions.id[known], kind="stable")]
    views = np.full(len(predictions.id), "", dtype=object)
    if predictions.view is not None:
        # NaN, of an unknown view, is the one value that is not itself.
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
    known = 0 <= value[0] < len(classes)
    return str(classes[int(value[0])]) if known else "unknown to training"


def check_same(first: str, one: Pictures, second: str, other: Pictures) -> None:
    """Two runs of a table must have been tested on the same pictures with the same labels.

    Raises:
        UserError: they were not.
    """
    if not np.array_equal(one.id, other.id):
        common = len(np.intersect1d(one.id, other.id))
        raise UserError(
            f"Runs '{first}' and '{second}' cannot stand in one table: they were tested on other "
            f"pictures ({len(one.id)} and {len(other.id)}, {common} in both)."
        )
    if (differ := int((one.name != other.name).sum())) > 0:
        raise UserError(
            f"Runs '{first}' and '{second}' cannot stand in one table: {differ} test pictures have "
            "another label in one than in the other."
        )
