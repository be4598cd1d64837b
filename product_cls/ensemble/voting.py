"""Soft votes: scores of several runs -> one. Pure functions; ``ensemble.py`` is the command."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.inference.align import align, check_alike
from product_cls.inference.predictions import OPTIONAL, Predictions

TINY = np.finfo(np.float32).tiny  # below it the logarithm would be -inf


NEARLY_NEVER = 1e-7  # nearest to 0 and 1 that float32 tells apart from both


def _same(scores: np.ndarray) -> np.ndarray:
    return scores


def _logarithm(scores: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(scores, TINY))


def _odds(scores: np.ndarray) -> np.ndarray:
    likely = np.clip(scores, NEARLY_NEVER, 1 - NEARLY_NEVER)
    return np.log(likely / (1 - likely))


def _likely(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


# What is averaged over the runs, and what the average then becomes.
METHODS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]]


METHODS = {
    "mean": (_same, _same),
    "gmean": (_logarithm, np.exp),
    "sharpened": (np.sqrt, _same),
    "logits": (_odds, _likely),
}


def blend(
    scores: np.ndarray | Sequence[np.ndarray],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Soft vote over runs.

    Args:
        scores: ``[R, N, C]``, probabilities of R runs for the same pictures and classes.
        method: ``mean``; ``gmean``, the geometric mean, where one run's veto counts; ``sharpened``,
            ``mean(p^.5)``, which lets a confident run count less; ``logits``, the mean of the
            logits ``log(p / (1 - p))``, for probabilities that are independent of one another.
        weights: one a run, 0 or more; equal where None.

    Returns:
        ``[N, C]``; only ``mean`` sums to 1 over the classes.

    Raises:
        UserError: an unknown method, or weights that do not fit.
    """
    return blend_in_turn(scores, check_weights(weights, len(scores)), method)


def blend_in_turn(
    scores: Iterable[np.ndarray], weights: np.ndarray, method: str = "mean"
) -> np.ndarray:
    """``blend``, which holds the scores of one run at a time.

    Scores of 72,000 pictures for 1,000 classes by ten runs take 6 GB.

    Args:
        scores: R arrays ``[N, C]``, see ``blend``; each is let go before the next is taken.
        weights: of the runs, checked, ``[R]``.

    Returns:
        float64 ``[N, C]``.

    Raises:
        UserError: an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"method={method}; allowed: {', '.join(METHODS)}.")
    transform, invert = METHODS[method]
    total: np.ndarray | None = None
    for weight, part in zip(weights / weights.sum(), scores, strict=True):
        if total is None:
            total = np.zeros(np.shape(part))
        total += weight * transform(np.asarray(part, dtype=np.float64))
    assert total is not None, "there is a run"
    return invert(total)


def blend_predictions(
    parts: Sequence[tuple[str, Predictions]],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> Predictions:
    """Blend runs that predict the same pictures, into scores of their task.

    Raises:
        UserError: what ``align`` and ``blend`` refuse, or a method that is not for their task.
    """
    aligned = align(parts)
    task = aligned[0].make_task()
    if method in METHODS and method not in task.blend_methods:
        raise UserError(
            f"method={method} is not for runs of task={task.name}; allowed: "
            f"{', '.join(task.blend_methods)}."
        )
    # Embeddings of different runs have nothing in common to average.
    of_one_run: dict[str, Any] = dict.fromkeys(name for name in OPTIONAL if name != "view")

    checked = check_weights(weights, len(aligned))

    def blended(name: str) -> np.ndarray:
        scores = blend_in_turn((getattr(part, name) for part in aligned), checked, method)
        return task.normalise_scores(scores).astype(np.float32)

    return replace(
        aligned[0],
        scores=blended("scores"),
        scores_no_tta=blended("scores_no_tta"),
        **of_one_run,
    )


def out_of_fold(
    parts: Sequence[tuple[str, Predictions]],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> Predictions:
    """Blend validation parts: each picture over the runs that held it out (errors: ``by_fold``)."""
    chosen = check_weights(weights, len(parts))

    def blended(members: list[int]) -> Predictions:
        return blend_predictions([parts[k] for k in members], method, chosen[members].tolist())

    return by_fold(parts, blended)


def by_fold(
    parts: Sequence[tuple[str, Predictions]], combine: Callable[[list[int]], Predictions]
) -> Predictions:
    """Combine the runs that held out the same pictures; stand the folds below one another.

    Args:
        parts: (run's name, predictions of its validation part).
        combine: positions in ``parts`` of the runs of one fold -> their predictions as one.

    Raises:
        UserError: the runs were split by different folds files, or their classes differ.
    """
    # Runs that held out the same pictures are one block; blocks of different folds do not overlap
    # unless the runs were split differently, which then is said.
    blocks: dict[frozenset[str], list[int]] = {}
    for k, (_, part) in enumerate(parts):
        blocks.setdefault(frozenset(part.id.tolist()), []).append(k)
    ids = [one for block in blocks for one in block]
    if len(ids) != len(set(ids)):
        raise UserError(
            "The runs' validation parts overlap without being the same: they were split by "
            "different folds files."
        )
    blended = [combine(members) for members in blocks.values()]
    names = [parts[members[0]][0] for members in blocks.values()]
    first = blended[0]
    for name, other in zip(names, blended, strict=True):
        check_alike(names[0], first, name, other)
    columns = ["id", "scores", "scores_no_tta", "target", *(["view"] * (first.view is not None))]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in blended]) for name in columns
    }
    return replace(first, **joined)
