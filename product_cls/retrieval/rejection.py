"""Unknown products: when the nearest picture is too far away to believe its label.

A query is answered, by the vote of its neighbours, where its best similarity is at least a
threshold. What an unknown product would get is measured by taking each validation query's own class
out of the gallery.
"""

from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.neighbours.exact import check_search, search_exact
from product_cls.neighbours.votes import Vote


@dataclass(frozen=True)
class LeaveClassOut:
    """Best similarities with and without the query's own class in the gallery.

    Attributes:
        known_similarity: float32 ``[K]``, of the queries whose class the gallery has, in order.
        known_right: bool ``[K]``, whether the vote is for the query's class.
        unknown_similarity: float32 ``[N]``, of all queries, their class taken out.
    """

    known_similarity: np.ndarray
    known_right: np.ndarray
    unknown_similarity: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """A threshold on the best similarity, and the curve it was chosen from.

    Precision is the share of right answers among all that were answered, known and unknown. Recall
    is the share of known queries that were answered rightly.

    Attributes:
        threshold: answer where the similarity is at least this.
        precision, recall: at the threshold, in [0, 1].
        thresholds: ``[T]``, every similarity that occurs, descending.
        precisions, recalls: ``[T]``, at each of them.
    """

    threshold: float
    precision: float
    recall: float
    thresholds: np.ndarray
    precisions: np.ndarray
    recalls: np.ndarray


def leave_class_out(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    vote: Vote,
    *,
    class_scores: np.ndarray | None = None,
    device: torch.device | None = None,
) -> LeaveClassOut:
    """Search each query among all classes, and among all but its own.

    Args:
        queries: ``[N, D]``, L2-normalised, of pictures that the gallery does not hold.
        query_labels: int64 ``[N]``, 0 or more, also of classes that the gallery has not.
        gallery: ``[M, D]``, L2-normalised.
        gallery_labels: int64 ``[M]``, 0 or more.
        vote: which neighbours answer, and how; all of a gallery that has fewer than ``vote.k``.
        class_scores: ``[N, C]``, of the head; for ``winners``.

    Raises:
        UserError: a gallery of one class only, and what ``search_exact`` and the vote refuse.
    """
    assert len(queries) == len(query_labels) and len(gallery) == len(gallery_labels)
    assert (query_labels >= 0).all() and (gallery_labels >= 0).all()
    check_search(len(gallery), 1)
    pictures = np.bincount(gallery_labels, minlength=int(query_labels.max(initial=0)) + 1)
    if np.count_nonzero(pictures) < 2:
        raise UserError(
            "All pictures of the gallery are of one class; to take a class out it needs 2 or more."
        )
    # Past all pictures of the query's class there is one of another.
    own = pictures[query_labels]
    voters = min(vote.k, len(gallery))
    reach = max(int(own.max(initial=0)) + 1, voters)
    found = search_exact(queries, gallery, reach, device=device)
    labels = gallery_labels[found.position]
    other = (labels == query_labels[:, None]).argmin(axis=1)[:, None]
    scores = vote.scores(
        found.similarity[:, :voters], labels[:, :voters], len(pictures), class_scores
    )
    known = own > 0
    return LeaveClassOut(
        known_similarity=found.similarity[known, 0],
        known_right=(scores.argmax(axis=1) == query_labels)[known],
        unknown_similarity=np.take_along_axis(found.similarity, other, axis=1)[:, 0],
    )


def tune_rejection_threshold(
    known_similarity: np.ndarray,
    known_right: np.ndarray,
    unknown_similarity: np.ndarray,
    *,
    precision: float | None = None,
) -> Threshold:
    """Choose the threshold of the best F1, or of the highest recall at a precision.

    Of equally good thresholds the highest is chosen. Precision holds for the given mix of known and
    unknown queries: ``leave_class_out`` gives as many of either.

    Args:
        known_similarity: ``[K]``, K at least 1.
        known_right: bool ``[K]``.
        unknown_similarity: ``[U]``.
        precision: the least that is asked, in (0, 1]; the best F1 where None.

    Raises:
        UserError: no threshold reaches the precision, or it is not in (0, 1]; no known query; NaN
            or infinity.
    """
    assert len(known_similarity) == len(known_right)
    if not len(known_similarity):
        raise UserError("There is no query of a known class; a threshold needs one or more.")
    similarity = np.concatenate([known_similarity, unknown_similarity])
    if not np.isfinite(similarity).all():
        raise UserError("Some similarities are NaN or infinite; allowed: finite similarities.")
    if precision is not None and not 0 < precision <= 1:
        raise UserError(f"precision={precision}; allowed: above 0, 1 at most.")
    order = np.argsort(-similarity, kind="stable")
    right = np.concatenate([known_right, np.zeros(len(unknown_similarity), bool)])[order]
    ordered = similarity[order]
    # A threshold answers all queries of its similarity, so the last of equals counts.
    last = np.append(ordered[1:] != ordered[:-1], True)
    thresholds = ordered[last]
    hits = right.cumsum()[last]
    precisions = hits / (np.flatnonzero(last) + 1)
    recalls = hits / len(known_similarity)
    if precision is None:
        # F1 = 2 hits / (answered + known), which is no 0 / 0 where nothing is right.
        score = 2 * hits / (np.flatnonzero(last) + 1 + len(known_similarity))
    else:
        score = np.where(precisions >= precision, recalls, -1.0)
        if score.max() < 0:
            best = int(precisions.argmax())
            raise UserError(
                f"No threshold reaches precision={precision}; the highest is "
                f"{precisions[best]:.4f}, with recall {recalls[best]:.4f}."
            )
    chosen = int(score.argmax())
    return Threshold(
        threshold=float(thresholds[chosen]),
        precision=float(precisions[chosen]),
        recall=float(recalls[chosen]),
        thresholds=thresholds,
        precisions=precisions,
        recalls=recalls,
    )
