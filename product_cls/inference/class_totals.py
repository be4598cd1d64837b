"""Scores that respect how many pictures of each class a test has, known or estimated.

Class totals are information about the test as a whole: the answer to a picture then depends on the
other pictures.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from product_cls.core.errors import UserError
from product_cls.core.names import nfc, shown
from product_cls.data.source_tables import read_table

LEGITIMATE = (
    "Class totals are information about the test as a whole: use them only if they are known "
    "beforehand, or if the rules of a contest allow it."
)
FLOOR = 1e-12  # lower bound of scores, so that a class with a total can be given its pictures
STEPS = 1000  # most iterations
CLOSE = 1e-6  # relative error of the totals, or change of a share, at which iterations end


def matched(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Scores whose sums over the pictures are the class totals.

    Columns and rows are scaled in turn until both sums fit (Sinkhorn & Knopp 1967; for optimal
    transport Cuturi 2013, arXiv 1306.0895).

    Args:
        scores: probabilities, float ``[N, C]``.
        shares: of the classes among the N pictures, float ``[C]``, 0 or more, with sum 1.

    Returns:
        float32 ``[N, C]``; rows sum to 1, and columns nearly to ``N * shares``. A class of share 0
        has scores of 0.
    """
    matrix = np.maximum(scores.astype(np.float64), FLOOR) * (shares > 0)
    totals = len(scores) * shares
    for _ in range(STEPS):
        matrix /= matrix.sum(axis=1, keepdims=True)
        sums = matrix.sum(axis=0)
        if np.abs(sums - totals).max() <= CLOSE * len(scores):
            break
        matrix *= np.divide(totals, sums, out=np.zeros_like(sums), where=sums > 0)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix.astype(np.float32)


def known_shares(prior: str, classes: list[str]) -> np.ndarray:
    """Class shares that are known beforehand, float64 ``[C]`` with sum 1.

    Args:
        prior: ``uniform`` (as many pictures of each class), or a CSV, see ``read_shares``.
        classes: names of the classes, ``[C]``.

    Raises:
        UserError: what ``read_shares`` refuses.
    """
    uniform = np.full(len(classes), 1 / len(classes))
    return uniform if prior == "uniform" else read_shares(Path(prior), classes)


def check_several(prior: str, count: int) -> None:
    """Refuse class totals of one picture.

    Raises:
        UserError: fewer than two pictures.
    """
    if count < 2:
        raise UserError(f"prior={prior} needs several pictures; with one it says nothing.")


def corrected(
    scores: np.ndarray, train_shares: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores for the class shares of a test, which are estimated from the scores themselves.

    Expectation maximisation of Saerens, Latinne & Decaestecker 2002 ("Adjusting the outputs of a
    classifier to new a priori probabilities"). It needs calibrated scores, and that only the shares
    differ between training and test. One picture is added to each class, so that no class
    disappears because its scores are low.

    Args:
        scores: probabilities, float ``[N, C]``.
        train_shares: of the classes in the training, float ``[C]``, 0 or more.
        temperature: divides the logarithm of the scores, above 0; see ``fit_temperature``.

    Returns:
        Corrected scores, float32 ``[N, C]``, and the estimated shares, float64 ``[C]``.
    """
    classes = scores.shape[1]
    calm = tempered(scores, temperature)
    learned = (train_shares + FLOOR) / (train_shares + FLOOR).sum()
    shares, answers = learned, calm
    for _ in range(STEPS):
        answers = calm * (shares / learned)
        answers /= answers.sum(axis=1, keepdims=True)
        before, shares = shares, (answers.sum(axis=0) + 1) / (len(scores) + classes)
        if np.abs(shares - before).max() <= CLOSE:
            break
    return answers.astype(np.float32), shares


def fit_temperature(scores: np.ndarray, target: np.ndarray) -> float:
    """The temperature with the lowest log loss on held-out pictures (Guo et al. 2017, 1706.04599).

    Args:
        scores: probabilities of held-out pictures, float ``[N, C]``.
        target: their classes, int ``[N]``; negative if unknown.

    Returns:
        A number from 0.1 to 10; above 1 if the scores are too confident. 1 without labels.
    """
    known = target >= 0
    if not known.any():
        return 1.0
    rows, truth = scores[known], target[known]

    def loss(log_temperature: float) -> float:
        calm = tempered(rows, float(np.exp(log_temperature)))
        return float(-np.log(calm[np.arange(len(truth)), truth]).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10)), method="bounded")
    return float(np.exp(found.x))


def tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores whose logarithm is divided by a temperature, float64 ``[N, C]``; rows sum to 1."""
    logits = np.log(np.maximum(scores.astype(np.float64), FLOOR)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    tempered: np.ndarray = np.maximum(powers / powers.sum(axis=1, keepdims=True), FLOOR)
    return tempered


def read_shares(file: Path, classes: list[str]) -> np.ndarray:
    """Class shares from a CSV with the columns ``label`` and ``count``.

    Args:
        file: each class exactly once; counts are 0 or more, pictures or shares.
        classes: names of the classes, ``[C]``.

    Returns:
        float64 ``[C]`` with sum 1.

    Raises:
        UserError: the file is missing or lacks a column, names other classes, or holds a count that
            is no number of 0 or more.
    """
    table = read_table(file, ["label", "count"], dtype={"label": str, "count": str})
    counts: dict[str, float] = {}
    pairs = zip(table["label"], table["count"], strict=True)
    for number, (name, written) in enumerate(pairs, start=2):
        label = nfc(str(name))
        try:
            count = float(written)
        except ValueError:
            count = -1.0
        if not 0 <= count < np.inf:
            raise UserError(
                f"prior={file}, line {number}: count={shown(str(written))}; allowed: a number "
                "of 0 or more."
            )
        if label in counts:
            raise UserError(f"prior={file}, line {number}: the class {shown(label)} occurs twice.")
        counts[label] = count
    for what, names in (
        ("names classes that the runs do not know", [k for k in counts if k not in set(classes)]),
        ("lacks classes of the runs", [k for k in classes if k not in counts]),
    ):
        if names:
            listed = ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
            raise UserError(f"prior={file} {what}: {listed}.")
    totals = np.array([counts[name] for name in classes])
    if not totals.sum():
        raise UserError(f"prior={file} holds counts of 0 only.")
    shares: np.ndarray = totals / totals.sum()
    return shares
