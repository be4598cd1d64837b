"""Weights of groups of runs in the vote, tuned on their held-out pictures.

A weight belongs to a group: the runs that differ only by fold and seed. Only one fold of each group
votes on a held-out picture, so runs of different folds cannot be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from product_cls.core.errors import UserError
from product_cls.ensemble.held_out import parts_of, unseen_views
from product_cls.ensemble.members import Member, by_group
from product_cls.ensemble.voting import blend, out_of_fold
from product_cls.ensemble.weights import TUNERS, cross_fit, log_loss
from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions

ALLOWED = f"{', '.join(TUNERS)}, [one number per run], or null for equal weights"


@dataclass(frozen=True)
class FoundWeights:
    """Weights tuned on held-out pictures, and the cross-fitted validation scores.

    Attributes:
        runs: one weight per run, with mean 1, so that 1 is the weight of an equal vote.
        val: predictions for the held-out pictures, each fold with weights tuned on the others.
        sentences: each group's share of the vote, the comparison with equal weights, and a warning
            if held-out pictures cannot represent the test.
    """

    runs: list[float]
    val: Predictions
    sentences: list[str]


def check_numbers(weights: Any) -> list[float] | None:
    """Check ``weights`` of the command line that do not name a tuner.

    Raises:
        UserError: ``weights`` is not a list of numbers.
    """
    if weights is None:
        return None
    numbers = isinstance(weights, list) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights
    )
    if not numbers:
        raise UserError(f"weights={weights}; allowed: {ALLOWED}.")
    return [float(weight) for weight in weights]


def find_weights(runs: Sequence[Member], how: str, method: str) -> FoundWeights:
    """Find the weights with the least log loss on out-of-fold predictions.

    Args:
        runs: softmax runs of two groups or more, all with a validation split.
        how: one of ``TUNERS``.
        method: method of the vote; only ``mean`` can be tuned.

    Raises:
        UserError: an unknown tuner, runs or a method that cannot be tuned, or groups that held out
            different pictures.
    """
    if how not in TUNERS:
        raise UserError(f"weights={how}; allowed: {ALLOWED}.")
    if method != "mean":
        raise UserError(f"weights={how} finds weights for method=mean, not for method={method}.")
    _check_runs(runs, how)
    members = by_group(runs)
    names = list(members)
    groups = _held_out(members, how)
    first = groups[0]
    task = first.make_task()
    rows_of_labels, _ = task.true_label_scores(first.scores, first.target)
    truth = np.stack([task.true_label_scores(part.scores, first.target)[1] for part in groups])
    truth = truth.astype(np.float64)
    fold, parts = parts_of([run.splits["val"] for run in members[names[0]]], first.id)
    tune = TUNERS[how]
    weights = tune(truth)
    cross_fitted = cross_fit(truth, fold[rows_of_labels], fold.max() + 1, tune)

    def voted(name: str) -> np.ndarray:
        scores = np.empty(first.scores.shape, np.float32)
        for k, fold_weights in enumerate(cross_fitted):
            rows = fold == k
            scores[rows] = blend(
                [getattr(part, name)[rows] for part in groups], "mean", fold_weights
            )
        return scores

    val = replace(first, scores=voted("scores"), scores_no_tta=voted("scores_no_tta"))
    equal = blend([part.scores for part in groups], "mean", [len(members[n]) for n in names])
    shares = f"Weights, {how}: {', '.join(map('{:.3f} {}'.format, weights, names))}."
    warnings = unseen_views([run.splits for run in runs])
    return FoundWeights(
        runs=_by_run(runs, members, dict(zip(names, weights, strict=True))),
        val=val,
        sentences=[shares, *_compare(how, parts, val, equal), *warnings],
    )


def _check_runs(runs: Sequence[Member], how: str) -> None:
    for run in runs:
        if run.gallery is not None:
            raise UserError(
                f"weights={how} is for softmax runs, and '{run.name}' is a retrieval run; pass one "
                "number per run."
            )
        if "val" not in run.splits:
            raise UserError(
                f"weights={how} needs held-out pictures, and run '{run.name}' held none out "
                f"(fold=all); pass one number per run."
            )
    if len(groups := {run.group for run in runs}) < 2:
        raise UserError(
            f"weights={how} weighs groups of runs that differ by more than fold and seed, but "
            f"there is only one: {groups.pop()}."
        )


def _held_out(members: dict[str, list[Member]], how: str) -> list[Predictions]:
    """Each group's predictions for its held-out pictures, in the order of the first group."""
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
                f"and '{name}' held out different ones ({len(first.id)} and {len(other.id)}, "
                f"{both} by both); train the same folds of each."
            )
    return align(parts)


def _by_run(
    runs: Sequence[Member], members: dict[str, list[Member]], weights: dict[str, float]
) -> list[float]:
    """Weights of the runs: a group's weight is divided evenly over its folds, then over seeds."""
    held_out = [frozenset(run.splits["val"].id.tolist()) for run in runs]
    of_group = {
        name: [block for run, block in zip(runs, held_out, strict=True) if run.group == name]
        for name in members
    }
    shares = [
        weights[run.group] / len(set(of_group[run.group])) / of_group[run.group].count(block)
        for run, block in zip(runs, held_out, strict=True)
    ]
    return [share * len(runs) for share in shares]


def _compare(how: str, parts: str, val: Predictions, equal: np.ndarray) -> list[str]:
    """Compare tuned weights with equal weights, on pictures not used to tune them.

    Args:
        how: one of ``TUNERS``.
        parts: description of the parts of the held-out pictures.
        val: the cross-fitted vote with tuned weights.
        equal: scores ``[N, C]`` of the vote with equal weights, for the same pictures.
    """
    task = val.make_task()
    measure = task.measures[0]

    def evaluated(scores: np.ndarray) -> tuple[str, float]:
        value = 100 * task.evaluate(scores, val.target)[measure]
        loss = log_loss(task.true_label_scores(scores, val.target)[1][None], np.ones(1))
        return f"{value:.2f} % (log loss {loss:.4f})", loss

    (before, loss_before), (after, loss_after) = evaluated(equal), evaluated(val.scores)
    sentences = [
        f"Out of fold, {measure} cross-fitted over {parts}: equal weights {before}, {how} {after}."
    ]
    if loss_after >= loss_before:
        sentences.append(
            "On pictures not used to tune them, these weights are no better: equal weights "
            "(weights=null) are the safer choice."
        )
    return sentences
