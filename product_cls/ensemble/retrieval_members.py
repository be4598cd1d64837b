"""Retrieval runs joined into one system, and the share of that system beside softmax runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from product_cls.core.vote_weights import check_weights
from product_cls.ensemble.voting import blend_in_turn, blend_predictions, by_fold
from product_cls.inference.align import align
from product_cls.inference.predictions import OPTIONAL, Predictions
from product_cls.neighbours.join import join_embeddings
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.gallery import Gallery, vote_by_neighbours
from product_cls.retrieval.join_galleries import join_galleries

BOTH = ("scores", "scores_no_tta")
SHARES = np.linspace(0, 1, 21)  # candidates for the share of retrieval


@dataclass(frozen=True)
class RetrievalRun:
    """A finished run of task=retrieval.

    Attributes:
        name: name of the run's folder.
        splits: predictions for ``val``, ``test`` or both.
        gallery: embeddings of all labelled pictures.
    """

    name: str
    splits: dict[str, Predictions]
    gallery: Gallery


def join_runs(
    runs: Sequence[RetrievalRun],
    split: str,
    weights: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> Predictions:
    """Join the embeddings of runs that predict the same pictures, and let neighbours vote.

    Args:
        runs: one or more; the first run's vote is used.
        split: ``val`` (of runs that held out the same pictures) or ``test``.
        weights: of each run's embedding, and of its head in the ``winners`` vote; None for equal
            weights.
        device: where to search; None for the CPU.

    Raises:
        UserError: runs with different pictures, classes or galleries.
    """
    numbers = [1.0] * len(runs) if weights is None else list(weights)
    parts = align([(run.name, run.splits[split]) for run in runs])
    gallery = join_galleries([(run.name, run.gallery) for run in runs], numbers)
    first = parts[0]

    def joined(name: str) -> np.ndarray:
        return join_embeddings([getattr(part, name) for part in parts], numbers)

    def head(name: str) -> np.ndarray:
        scores = (getattr(part, name) for part in parts)
        return blend_in_turn(scores, check_weights(numbers, len(parts))).astype(np.float32)

    whole = replace(
        first,
        scores=head("class_scores"),
        scores_no_tta=head("class_scores_no_tta"),
        embedding=joined("embedding"),
        embedding_no_tta=joined("embedding_no_tta"),
    )
    voted = vote_by_neighbours(whole, gallery.without(first.id), Vote(**first.task["vote"]), device)
    # Joined embeddings are large, and only the scores are needed from here on.
    dropped: dict[str, Any] = dict.fromkeys(name for name in OPTIONAL if name != "view")
    return replace(voted, **dropped)


def join_out_of_fold(
    runs: Sequence[RetrievalRun],
    weights: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> Predictions:
    """``join_runs`` on the validation splits: each picture by the runs that held it out.

    Raises:
        UserError: as in ``join_runs`` and ``by_fold``.
    """
    numbers = [1.0] * len(runs) if weights is None else list(weights)

    def joined(members: list[int]) -> Predictions:
        return join_runs([runs[k] for k in members], "val", [numbers[k] for k in members], device)

    return by_fold([(run.name, run.splits["val"]) for run in runs], joined)


def tune_share(softmax: Predictions, retrieval: Predictions) -> tuple[float, np.ndarray]:
    """The share of retrieval in the joint vote with the best Brier score on held-out pictures.

    The Brier score is the mean squared error of the probabilities. Accuracy hardly changes if
    nearly all pictures are correct, and the log loss is infinite where a vote gives 0.

    Args:
        softmax, retrieval: out-of-fold predictions of the same pictures, in any order.

    Returns:
        The share in [0, 1] (of equally good shares, the nearest to one half), and the Brier scores
        of ``SHARES``, float64 ``[21]``.

    Raises:
        UserError: different pictures or classes.
    """
    parts = align([("softmax", softmax), ("retrieval", retrieval)])
    labelled = parts[0].target >= 0
    truth = np.zeros(parts[0].scores[labelled].shape)  # one-hot
    truth[np.arange(len(truth)), parts[0].target[labelled]] = 1
    scores = [part.scores[labelled].astype(np.float64) for part in parts]
    errors = np.array(
        [
            np.square((1 - share) * scores[0] + share * scores[1] - truth).sum(axis=1).mean()
            for share in SHARES
        ]
    )
    best = np.flatnonzero(errors <= errors.min() + 1e-12)
    return float(SHARES[best[np.abs(SHARES[best] - 0.5).argmin()]]), errors


def cross_fit_share(softmax: Predictions, retrieval: Predictions, part: np.ndarray) -> Predictions:
    """The joint vote on held-out pictures, each part with the share tuned on the other parts.

    The share that the test gets is tuned on all held-out pictures; on these it would look better
    than it is.

    Args:
        softmax, retrieval: out-of-fold predictions of the same pictures, in the same order.
        part: of each picture, int ``[N]``; at least two occur.
    """
    scores: dict[str, Any] = {name: np.empty(softmax.scores.shape, np.float32) for name in BOTH}
    for k in np.unique(part):
        here, others = part == k, part != k
        share, _ = tune_share(softmax.rows(others), retrieval.rows(others))
        voted = blend_share(softmax.rows(here), retrieval.rows(here), share)
        for name in BOTH:
            scores[name][here] = getattr(voted, name)
    return replace(blend_share(softmax, retrieval, 0.5), **scores)


def blend_share(softmax: Predictions, retrieval: Predictions, share: float) -> Predictions:
    """The joint vote: ``(1 - share) * softmax + share * retrieval``.

    Raises:
        UserError: different pictures or classes.
    """
    parts = [("the softmax runs", softmax), ("the retrieval runs", retrieval)]
    return blend_predictions(parts, "mean", [1 - share, share])
