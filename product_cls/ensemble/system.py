"""Finished runs blended into one system."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.ensemble.held_out import parts_of, unseen_views
from product_cls.ensemble.members import SPLITS, Member
from product_cls.ensemble.retrieval_members import (
    RetrievalRun,
    blend_share,
    cross_fit_share,
    join_out_of_fold,
    join_runs,
    tune_share,
)
from product_cls.ensemble.voting import blend_predictions, out_of_fold
from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions

HOW = {"val": out_of_fold, "test": blend_predictions}


@dataclass(frozen=True)
class Blended:
    """Several runs as one system.

    Attributes:
        splits: predictions by split.
        share: weight of the retrieval runs against the softmax runs, in [0, 1]; None unless both
            kinds take part.
        source: how the share was determined, for tables.
        notes: sentences about a tuned share.
    """

    splits: dict[str, Predictions]
    share: float | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def blend_runs(
    runs: Sequence[Member],
    method: str,
    weights: Sequence[float] | None = None,
    share: float | None = None,
    device: torch.device | None = None,
) -> Blended:
    """Blend runs into one system: softmax runs vote, retrieval runs join their embeddings.

    Args:
        runs: finished runs.
        method: of the vote, see ``blend``.
        weights: one per run; runs of weight 0 are left out. None for equal weights.
        share: weight of the retrieval runs against the softmax runs, 0 to 1; None tunes it on
            pictures that both kinds of runs held out, or takes one half if there are none
            (fold=all).
        device: where retrieval runs are searched; None for the CPU.

    Raises:
        UserError: bad weights or a bad share, or runs that cannot be blended.
    """
    if share is not None and not 0 <= share <= 1:
        raise UserError(f"share={share}; allowed: 0 to 1, or null to tune it.")
    checked = check_weights(weights, len(runs), [run.name for run in runs]).tolist()
    pairs = [(run, weight) for run, weight in zip(runs, checked, strict=True) if weight > 0]
    softmax = {s: _vote([p for p in pairs if p[0].gallery is None], s, method) for s in SPLITS}
    retrieval = {
        s: _join([p for p in pairs if p[0].gallery is not None], s, device) for s in SPLITS
    }
    if not any(softmax.values()) or not any(retrieval.values()):
        only = softmax if any(softmax.values()) else retrieval
        return Blended({split: part for split, part in only.items() if part is not None})
    held_out = _held_out_by_both(softmax["val"], retrieval["val"])
    notes: tuple[str, ...] = ()
    cross_fitted: dict[str, Predictions] = {}
    if share is not None:
        source = "as given"
    elif held_out is None or len(held_out[0].id) < 2:
        share, source = 0.5, "nothing to tune it on"
    else:
        share = tune_share(*held_out)[0]
        source = f"tuned on {len(held_out[0].id)} held-out pictures"
        folds = [run.splits["val"] for run, _ in pairs if "val" in run.splits]
        part, parts = parts_of(folds, held_out[0].id)
        cross_fitted = {"val": cross_fit_share(*held_out, part)}
        notes = (
            f"The share of retrieval is {share:.2f}; val is cross-fitted over {parts}: each is "
            "blended by the share tuned on the others.",
            *unseen_views([run.splits for run, _ in pairs]),
        )
    splits = {} if held_out is None else {"val": blend_share(*held_out, share)}
    if softmax["test"] is not None and retrieval["test"] is not None:
        splits["test"] = blend_share(softmax["test"], retrieval["test"], share)
    return Blended(splits | cross_fitted, share, source, notes)


def _held_out_by_both(
    softmax: Predictions | None, retrieval: Predictions | None
) -> tuple[Predictions, Predictions] | None:
    """Predictions for the pictures that both kinds of runs held out, in the same order.

    None if there are none; either kind may lack folds.
    """
    if softmax is None or retrieval is None:
        return None
    first = softmax.rows(np.isin(softmax.id, retrieval.id))
    second = retrieval.rows(np.isin(retrieval.id, softmax.id))
    if not len(first.id):
        return None
    first, second = align([("the softmax runs", first), ("the retrieval runs", second)])
    return first, second


def _having(pairs: Sequence[tuple[Member, float]], split: str) -> list[tuple[Member, float]]:
    """The runs with predictions for the split; runs of ``fold=all`` have no validation split.

    Raises:
        UserError: only some runs have predictions for the test split.
    """
    having = [pair for pair in pairs if split in pair[0].splits]
    if split == "test" and 0 < len(having) < len(pairs):
        lacking = next(run.name for run, _ in pairs if split not in run.splits)
        raise UserError(f"Run '{lacking}' has no predictions for the test part, but others have.")
    return having


def _vote(pairs: Sequence[tuple[Member, float]], split: str, method: str) -> Predictions | None:
    """Blend the predictions of softmax runs; None without such runs."""
    if not (having := _having(pairs, split)):
        return None
    parts = [(run.name, run.splits[split]) for run, _ in having]
    return HOW[split](parts, method, [weight for _, weight in having])


def _join(
    pairs: Sequence[tuple[Member, float]], split: str, device: torch.device | None
) -> Predictions | None:
    """Blend the predictions of retrieval runs; None without such runs."""
    if not (having := _having(pairs, split)):
        return None
    weights = [weight for _, weight in having]
    runs = [RetrievalRun(r.name, r.splits, r.gallery) for r, _ in having if r.gallery is not None]
    if split == "test":
        return join_runs(runs, split, weights, device)
    return join_out_of_fold(runs, weights, device)
