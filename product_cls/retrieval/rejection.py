"""Unknown products: the similarity below which a query is rejected.

A query is answered by the vote of its neighbours if its best similarity is at least a threshold. To
measure the best similarities of unknown products, each validation query is also searched in the
gallery without its own class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.neighbours.exact import check_search, search_exact
from product_cls.neighbours.votes import Vote


@dataclass(frozen=True)
class LeaveClassOut:
    """Best similarities (cosines) with and without the query's own class in the gallery.

    Attributes:
        known_similarity: float32 ``[K]``, for the queries whose class is in the gallery.
        known_right: bool ``[K]``, whether the vote names the query's class.
        unknown_similarity: float32 ``[N]``, for all queries, with their class removed from the
            gallery.
    """

    known_similarity: np.ndarray
    known_right: np.ndarray
    unknown_similarity: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """A threshold on the best similarity, and the curve from which it was selected.

    Precision is the share of correct answers among all answered queries, known and unknown. Recall
    is the share of known queries that were answered correctly.

    Attributes:
        threshold: queries with at least this similarity are answered.
        precision, recall: at the threshold, in [0, 1].
        thresholds: float32 ``[T]``, all similarities that occur, descending.
        precisions, recalls: float64 ``[T]``, at each of ``thresholds``, in [0, 1].
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
    votes: Sequence[Vote],
    *,
    class_scores: np.ndarray | None = None,
    device: torch.device | None = None,
) -> list[LeaveClassOut]:
    """Search each query in the whole gallery, and in the gallery without its own class.

    Args:
        queries: float32 ``[N, D]``, L2-normalised, of pictures that are not in the gallery.
        query_labels: int64 ``[N]``, 0 or more; may hold classes that the gallery lacks.
        gallery: float32 ``[M, D]``, L2-normalised.
        gallery_labels: int64 ``[M]``, 0 or more.
        votes: ways in which neighbours vote; a gallery smaller than k votes as a whole.
        class_scores: ``[N, C]``, probabilities of the head; for ``winners`` only.
        device: where to search; None for the CPU.

    Returns:
        One result for each vote. They differ in ``known_right`` only, because all come from one
        search.

    Raises:
        UserError: the gallery has only one class, or as in ``search_exact``.
    """
    assert len(queries) == len(query_labels) and len(gallery) == len(gallery_labels)
    assert (query_labels >= 0).all() and (gallery_labels >= 0).all()
    check_search(len(gallery), 1)
    pictures = np.bincount(gallery_labels, minlength=int(query_labels.max(initial=0)) + 1)
    if np.count_nonzero(pictures) < 2:
        raise UserError(
            "All pictures of the gallery are of one class; leaving a class out needs at least 2."
        )
    # Deep enough to find a picture of another class after all pictures of the query's class.
    own = pictures[query_labels]
    voters = [min(vote.k, len(gallery)) for vote in votes]
    depth = max(int(own.max(initial=0)) + 1, *voters)
    neighbours = search_exact(queries, gallery, depth, device=device)
    labels = gallery_labels[neighbours.position]
    other = (labels == query_labels[:, None]).argmin(axis=1)[:, None]
    in_gallery = own > 0
    return [
        LeaveClassOut(
            known_similarity=neighbours.similarity[in_gallery, 0],
            known_right=(
                vote.scores(
                    neighbours.similarity[:, :k], labels[:, :k], len(pictures), class_scores
                ).argmax(axis=1)
                == query_labels
            )[in_gallery],
            unknown_similarity=np.take_along_axis(neighbours.similarity, other, axis=1)[:, 0],
        )
        for vote, k in zip(votes, voters, strict=True)
    ]


def tune_rejection_threshold(
    known_similarity: np.ndarray,
    known_right: np.ndarray,
    unknown_similarity: np.ndarray,
    *,
    precision: float | None = None,
) -> Threshold:
    """Select the threshold with the best F1, or with the highest recall at a precision.

    Of equally good thresholds, the highest is selected. Precision holds for the mix of known and
    unknown queries passed in; ``leave_class_out`` yields as many unknown queries as queries.

    Args:
        known_similarity: float ``[K]``, K at least 1.
        known_right: bool ``[K]``, whether the answer would be correct.
        unknown_similarity: float ``[U]``.
        precision: the required minimum, in (0, 1]; None for the best F1.

    Raises:
        UserError: no threshold reaches the precision, it is not in (0, 1], there are no known
            queries, or a similarity is NaN or infinite.
    """
    assert len(known_similarity) == len(known_right)
    if not len(known_similarity):
        raise UserError("There is no query of a known class; a threshold needs at least one.")
    similarity = np.concatenate([known_similarity, unknown_similarity])
    if not np.isfinite(similarity).all():
        raise UserError("Some similarities are NaN or infinite; allowed: finite similarities.")
    if precision is not None and not 0 < precision <= 1:
        raise UserError(f"precision={precision}; allowed: above 0, at most 1.")
    order = np.argsort(-similarity, kind="stable")
    right = np.concatenate([known_right, np.zeros(len(unknown_similarity), bool)])[order]
    ordered = similarity[order]
    # A threshold answers all queries of equal similarity, so only the last of them counts.
    last = np.append(ordered[1:] != ordered[:-1], True)
    thresholds = ordered[last]
    hits = right.cumsum()[last]
    precisions = hits / (np.flatnonzero(last) + 1)
    recalls = hits / len(known_similarity)
    if precision is None:
        # F1 = 2 hits / (answered + known), which is not 0 / 0 if no answer is correct.
        score = 2 * hits / (np.flatnonzero(last) + 1 + len(known_similarity))
    else:
        score = np.where(precisions >= precision, recalls, -1.0)
        if score.max() < 0:
            best = int(precisions.argmax())
            raise UserError(
                f"No threshold reaches precision={precision}; the highest is "
                f"{precisions[best]:.4f}, with recall {recalls[best]:.4f}."
            )
    selected = int(score.argmax())
    return Threshold(
        threshold=float(thresholds[selected]),
        precision=float(precisions[selected]),
        recall=float(recalls[selected]),
        thresholds=thresholds,
        precisions=precisions,
        recalls=recalls,
    )
