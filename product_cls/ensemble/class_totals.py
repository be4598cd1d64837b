"""The ensemble's answers under class totals, beside those without, for ``prior=``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from product_cls.core.errors import UserError
from product_cls.ensemble.members import Member
from product_cls.inference.class_totals import (
    check_several,
    corrected,
    fit_temperature,
    known_shares,
    matched,
)
from product_cls.inference.predictions import Predictions


@dataclass(frozen=True)
class ClassTotals:
    """The test under class totals.

    Attributes:
        prior: ``uniform``, ``estimated`` or the name of a file.
        test: predictions of the test part.
    """

    prior: str
    test: Predictions


def with_class_totals(
    prior: str, splits: dict[str, Predictions], members: Sequence[Member]
) -> ClassTotals:
    """Apply class totals to the blended test predictions; test labels are not read.

    Args:
        prior: ``uniform`` (as many pictures of each class), ``estimated`` (from the scores and the
            shares of the training), or a CSV, see ``class_totals.read_shares``.
        splits: the blend's predictions.
        members: the finished runs, whose training labels give the shares of the training.

    Raises:
        UserError: no test predictions, one picture, several labels a picture, or what
            ``read_shares`` refuses.
    """
    if "test" not in splits:
        raise UserError(f"prior={prior} is for the test part, of which these runs have none.")
    test = splits["test"].in_memory()
    if test.target.ndim > 1:
        raise UserError(f"prior={prior} needs one label a picture, but these runs predict several.")
    check_several(prior, len(test.id))
    scores = (test.scores, test.scores_no_tta)
    if prior == "estimated":
        learned = _train_shares(members, test)
        val = splits["val"].in_memory() if "val" in splits else None
        heat = 1.0 if val is None else fit_temperature(val.scores, val.target)
        changed = [corrected(part, learned, heat)[0] for part in scores]
    else:
        shares = known_shares(prior, [str(name) for name in test.classes])
        changed = [matched(part, shares) for part in scores]
    return ClassTotals(prior, replace(test, scores=changed[0], scores_no_tta=changed[1]))


def _train_shares(members: Sequence[Member], test: Predictions) -> np.ndarray:
    """Shares of the classes among the labelled pictures outside the test, float64 ``[C]``."""
    truth = next((run.truth for run in members if run.truth is not None), None)
    if truth is None:
        raise UserError(
            "prior=estimated needs the labels of the training, which runs of earlier versions did "
            "not keep; allowed: uniform, a file, null."
        )
    labels = truth.target[~np.isin(truth.id, test.id)]
    counts = np.bincount(labels[labels >= 0], minlength=len(test.classes))
    shares: np.ndarray = counts / max(counts.sum(), 1)
    return shares
