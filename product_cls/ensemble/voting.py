"""Soft votes: blend the scores of several runs. Pure functions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.inference.align import align, check_alike
from product_cls.inference.predictions import OPTIONAL, Predictions

TINY = np.finfo(np.float32).tiny  # lower bound for logarithms, which would be -inf at 0
NEARLY_NEVER = 1e-7  # distance from 0 and 1 that float32 can still represent


def _identity(scores: np.ndarray) -> np.ndarray:
    return scores


def _logarithm(scores: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(scores, TINY))


def _logit(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, NEARLY_NEVER, 1 - NEARLY_NEVER)
    return np.log(clipped / (1 - clipped))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


# Method -> the transform of scores that is averaged over the runs, and its inverse.
METHODS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]]
METHODS = {
    "mean": (_identity, _identity),
    "gmean": (_logarithm, np.exp),
    "sharpened": (np.sqrt, _identity),
    "logits": (_logit, _sigmoid),
}


def blend(
    scores: np.ndarray | Sequence[np.ndarray],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Soft vote over runs.

    Args:
        scores: ``[R, N, C]``, probabilities of R runs for the same pictures and classes.
        method: ``mean``; ``gmean``, the geometric mean, in which one run can veto a class;
            ``sharpened``, ``mean(p^.5)``, which gives confident runs less weight; ``logits``, the
            mean of the logits ``log(p / (1 - p))``, for independent probabilities.
        weights: one per run, 0 or more; None for equal weights.

    Returns:
        float64 ``[N, C]``; only with ``mean`` do rows sum to 1.

    Raises:
        UserError: an unknown method, or weights of the wrong number or sign.
    """
    return blend_in_turn(scores, check_weights(weights, len(scores)), method)


def blend_in_turn(
    scores: Iterable[np.ndarray], weights: np.ndarray, method: str = "mean"
) -> np.ndarray:
    """``blend``, but with the scores of only one run in memory at a time.

    In float64, the scores of ten runs for 72,000 pictures and 1,000 classes take 6 GB.

    Args:
        scores: R arrays ``[N, C]``, see ``blend``; a generator may load them one by one.
        weights: of the runs, float64 ``[R]``, from ``check_weights``.
        method: see ``blend``.

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
    """Blend runs that predict the same pictures.

    Args:
        parts: (name of the run, its predictions), one or more.
        method, weights: see ``blend``.

    Raises:
        UserError: as in ``align`` and ``blend``, or a method that does not suit the task.
    """
    aligned = align(parts)
    task = aligned[0].make_task()
    if method in METHODS and method not in task.blend_methods:
        raise UserError(
            f"method={method} is not for runs of task={task.name}; allowed: "
            f"{', '.join(task.blend_methods)}."
        )
    # Embeddings of different runs live in different spaces and cannot be averaged.
    without_single_runs: dict[str, Any] = dict.fromkeys(name for name in OPTIONAL if name != "view")

    checked = check_weights(weights, len(aligned))

    def blended(name: str) -> np.ndarray:
        scores = blend_in_turn((getattr(part, name) for part in aligned), checked, method)
        return task.normalise_scores(scores).astype(np.float32)

    return replace(
        aligned[0],
        scores=blended("scores"),
        scores_no_tta=blended("scores_no_tta"),
        **without_single_runs,
    )


def out_of_fold(
    parts: Sequence[tuple[str, Predictions]],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> Predictions:
    """Blend validation splits, each picture over the runs that held it out.

    Args:
        parts: (name of the run, predictions for its validation split), one or more.
        method, weights: see ``blend``.

    Raises:
        UserError: as in ``blend_predictions`` and ``by_fold``.
    """
    checked = check_weights(weights, len(parts))

    def blended(members: list[int]) -> Predictions:
        return blend_predictions([parts[k] for k in members], method, checked[members].tolist())

    return by_fold(parts, blended)


def by_fold(
    parts: Sequence[tuple[str, Predictions]], combine: Callable[[list[int]], Predictions]
) -> Predictions:
    """Combine the runs that held out the same pictures, and concatenate the folds.

    Args:
        parts: (name of the run, predictions for its validation split), one or more.
        combine: joint predictions of the runs of one fold, from their positions in ``parts``.

    Raises:
        UserError: the runs used different folds files, or their classes differ.
    """
    # Runs that held out the same pictures form a block. Blocks can overlap only if the runs used
    # different folds files.
    blocks: dict[frozenset[str], list[int]] = {}
    for k, (_, part) in enumerate(parts):
        blocks.setdefault(frozenset(part.id.tolist()), []).append(k)
    ids = [picture_id for block in blocks for picture_id in block]
    if len(ids) != len(set(ids)):
        raise UserError(
            "The runs' validation splits overlap without being equal, so the runs used different "
            "folds files."
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
