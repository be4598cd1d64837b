"""Which pictures a teacher names in a round, and with what weight. Arrays only.

The share of pictures that are taken grows with the rounds, and is smaller in views that the teacher
knows less well (a curriculum). Inside a view, each predicted class keeps the same share of its most
confident pictures, so that easy classes do not crowd out the others (class-balanced self-training,
Zou et al. 2018, arXiv 1810.07911).
"""

import numpy as np
import pandas as pd

from product_cls.data.fold_names import view_name

ALL = "all pictures"  # name of the only view where views are unknown


def by_view(views: np.ndarray | None, count: int) -> dict[str, np.ndarray]:
    """Rows of each view.

    Args:
        views: of the pictures, ``[N]``; NaN or "" if unknown; None without views.
        count: number of pictures, N.

    Returns:
        Name of the view -> rows, int64 ``[n]``. Pictures of unknown view are together.
    """
    if views is None:
        return {ALL: np.arange(count)}
    column = pd.Series(views)
    known = column.notna() & (column != "")
    names = sorted(column[known].unique())
    rows = {view_name(name): np.flatnonzero(column == name) for name in names}
    if not known.all():
        rows[ALL if not rows else "unknown view"] = np.flatnonzero(~known)
    return rows


def view_share(confidence: float, number: int, rounds: int) -> float:
    """Share of a view's pictures that a round takes.

    The first round takes the share that the teacher expects to be right. It grows evenly to all
    pictures in the last round; a single round stays at the first share.

    Args:
        confidence: mean calibrated confidence of the view, 0 to 1.
        number: of the round, from 1.
        rounds: how many there are.
    """
    done = (number - 1) / (rounds - 1) if rounds > 1 else 0.0
    return confidence + (1 - confidence) * done


def chosen(scores: np.ndarray, share: float) -> np.ndarray:
    """The most confident pictures of each predicted class.

    Args:
        scores: calibrated probabilities of one view, float ``[n, C]``.
        share: of the pictures of each predicted class, 0 to 1; rounded up.

    Returns:
        Rows, int64, ascending. Equal confidence is decided by the row.
    """
    top, named = scores.max(axis=1), scores.argmax(axis=1)
    kept = []
    for name in np.unique(named):
        rows = np.flatnonzero(named == name)
        most = int(np.ceil(share * len(rows) - 1e-9))
        kept.append(rows[np.argsort(-top[rows], kind="stable")[:most]])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def choose(
    scores: np.ndarray, views: np.ndarray | None, number: int, rounds: int
) -> tuple[np.ndarray, dict[str, float]]:
    """The pictures that a round teaches.

    Args:
        scores: calibrated probabilities, float ``[N, C]``.
        views: as in ``by_view``.
        number, rounds: as in ``view_share``.

    Returns:
        Rows, int64, ascending; and the share of each view that they are.
    """
    kept, shares = [], {}
    for name, rows in by_view(views, len(scores)).items():
        share = view_share(float(scores[rows].max(axis=1).mean()), number, rounds)
        part = rows[chosen(scores[rows], share)]
        kept.append(part)
        shares[name] = len(part) / len(rows)
    return (np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)), shares
