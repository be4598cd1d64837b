"""Weights of groups of runs in the vote, found on the pictures that they held out.

What gets a weight is a group, the runs that differ only by fold and seed: a held-out picture is
voted on by one fold of each group, so runs of different folds cannot be set against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.ensemble.members import Member, by_group
from product_cls.ensemble.voting import blend, out_of_fold
from product_cls.ensemble.weights import TUNERS, cross_fit, log_loss, random_parts
from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions, view_name

ALLOWED = f"{', '.join(TUNERS)}, [one number a run], or null for equal weights"


@dataclass(frozen=True)
class FoundWeights:
    """Weights found on held-out pictures, and what they are worth on pictures not used for it.

    Attributes:
        runs: one weight a run, their mean is 1, so that 1 is as much as with equal weights.
        val: held-out pictures, each voted on by weights that were found without its fold.
        sentences: each group's share of the vote, the comparison with equal weights, and a warning
            where held-out pictures cannot tell how the test will be.
    """

    runs: list[float]
    val: Predictions
    sentences: list[str]


def check_numbers(weights: Any) -> list[float] | None:
    """``weights`` as the command got it, where it is no way to find them.

    Raises:
        UserError: it is no list of numbers.
    """
    if weights is None:
        return None
    numbers = isinstance(weights, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in weights
    )
    if not numbers:
        raise UserError(f"weights={weights}; allowed: {ALLOWED}.")
    return [float(one) for one in weights]


def find_weights(runs: Sequence[Member], how: str, method: str) -> FoundWeights:
    """Weights of least log loss on out-of-fold predictions.

    Args:
        runs: that vote (no retrieval runs), of two groups or more, all with a validation part.
        how: one of ``TUNERS``.
        method: of the vote; the mean is the one that weights are found for.

    Raises:
        UserError: an unknown way, runs that it is not for, or groups that held out other pictures.
    """
    if how not in TUNERS:
        raise UserError(f"weights={how}; allowed: {ALLOWED}.")
    if method != "mean":
        raise UserError(f"weights={how} finds weights of method=mean, not of method={method}.")
    _check_runs(runs, how)
    members = by_group(runs)
    names = list(members)
    groups = _held_out(members, how)
    first = groups[0]
    task = first.make_task()
    known, _ = task.true_label_scores(first.scores, first.target)
    truth = np.stack([task.true_label_scores(part.scores, first.target)[1] for part in groups])
    truth = truth.astype(np.float64)
    fold, parts = _folds(members[names[0]], first)
    tune = TUNERS[how]
    weights = tune(truth)
    honest = cross_fit(truth, fold[known], fold.max() + 1, tune)

    def voted(name: str) -> np.ndarray:
        scores = np.empty(first.scores.shape, np.float32)
        for k, chosen in enumerate(honest):
            rows = fold == k
            scores[rows] = blend([getattr(one, name)[rows] for one in groups], "mean", chosen)
        return scores

    val = replace(first, scores=voted("scores"), scores_no_tta=voted("scores_no_tta"))
    equal = blend([part.scores for part in groups], "mean", [len(members[n]) for n in names])
    shares = f"Weights, {how}: {', '.join(map('{:.3f} {}'.format, weights, names))}."
    return FoundWeights(
        runs=_by_run(runs, members, dict(zip(names, weights, strict=True))),
        val=val,
        sentences=[shares, *_compare(how, parts, val, equal), *_unseen_views(runs)],
    )


def _check_runs(runs: Sequence[Member], how: str) -> None:
    for run in runs:
        if run.gallery is not None:
            raise UserError(
                f"weights={how} is for softmax runs, and '{run.name}' is joined by its features; "
                f"give one number a run."
            )
        if "val" not in run.splits:
            raise UserError(
                f"weights={how} needs held-out pictures, and run '{run.name}' held none out "
                f"(fold=all); give one number a run."
            )
    if len(groups := {run.group for run in runs}) < 2:
        raise UserError(
            f"weights={how} weighs groups of runs that differ by more than fold and seed, and here "
            f"is one only: {groups.pop()}."
        )


def _held_out(members: dict[str, list[Member]], how: str) -> list[Predictions]:
    """Each group's predictions of what it held out, all in the order of the first's."""
    parts = [
        (name, out_of_fold([(run.name, run.splits["val"]) for run in group]))
        for name, group in members.items()
    ]
    first_name, first = parts[0]
    for name, other in parts[1:]:
        both = np.isin(first.id, other.id).sum()
        if not both == len(first.id) == len(other.id):
            raise UserError(
                f"weights={how} compares groups on the same held-out pictures, and '{first_name}' "
                f"and '{name}' held out others ({len(first.id)} and {len(other.id)}, {both} by "
                f"both); train the same folds of each."
            )
    return align(parts)


def _folds(group: Sequence[Member], whole: Predictions) -> tuple[np.ndarray, str]:
    """Which part of what was held out a picture is in, int ``[N]``, and what the parts are: the
    folds, or random ones where all is of one fold."""
    blocks = list(dict.fromkeys(frozenset(run.splits["val"].id.tolist()) for run in group))
    if len(blocks) > 1:
        fold = [next(k for k, b in enumerate(blocks) if one in b) for one in whole.id]
        return np.array(fold), f"{len(blocks)} folds"
    drawn = random_parts(len(whole.id))
    return drawn, f"{drawn.max() + 1} random parts of one fold"


def _by_run(
    runs: Sequence[Member], members: dict[str, list[Member]], weights: dict[str, float]
) -> list[float]:
    """A group's weight, divided evenly over its folds and a fold's over its seeds."""
    held_out = [frozenset(run.splits["val"].id.tolist()) for run in runs]
    of_group = {
        name: [block for run, block in zip(runs, held_out, strict=True) if run.group == name]
        for name in members
    }
    each = [
        weights[run.group] / len(set(of_group[run.group])) / of_group[run.group].count(block)
        for run, block in zip(runs, held_out, strict=True)
    ]
    return [weight * len(runs) for weight in each]


def _compare(how: str, parts: str, val: Predictions, equal: np.ndarray) -> list[str]:
    """Found weights against equal ones, on pictures that they were found without.

    Args:
        parts: of the held-out pictures, in words.
        val: the vote by the found weights.
        equal: scores ``[N, C]`` of the vote by equal weights, of the same pictures.
    """
    task = val.make_task()
    measure = task.measures[0]

    def judged(scores: np.ndarray) -> tuple[str, float]:
        value = 100 * task.evaluate(scores, val.target)[measure]
        loss = log_loss(task.true_label_scores(scores, val.target)[1][None], np.ones(1))
        return f"{value:.2f} % (log loss {loss:.4f})", loss

    (before, loss_before), (after, loss_after) = judged(equal), judged(val.scores)
    sentences = [
        f"Out of fold, {measure} cross-fitted over {parts}: equal weights {before}, {how} {after}."
    ]
    if loss_after >= loss_before:
        sentences.append(
            "The found weights are no better on pictures that they were not found on: equal ones "
            "(weights=null) are the safer choice."
        )
    return sentences


def _unseen_views(runs: Sequence[Member]) -> list[str]:
    """A warning where the test shows other views than random folds hold out."""

    def views(run: Member, split: str) -> set[str]:
        view = run.splits[split].view if split in run.splits else None
        return {view_name(one) for one in pd.Series(view).dropna().unique() if one != ""}

    held_out = [views(run, "val") for run in runs]
    unseen = views(runs[0], "test") - {one for block in held_out for one in block}
    # Folds that hold out a view each have asked the right question.
    if not unseen or max(map(len, held_out)) < 2:
        return []
    return [
        f"The test shows views that no held-out picture does ({', '.join(sorted(unseen))}), and "
        f"what is best on random folds may be worst there: folds.strategy=view holds out whole "
        f"views."
    ]
