"""Finished runs blended into one system."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.ensemble.members import SPLITS, Member
from product_cls.ensemble.retrieval_members import (
    RetrievalRun,
    blend_share,
    join_out_of_fold,
    join_runs,
    tune_share,
)
from product_cls.ensemble.voting import blend_predictions, out_of_fold
from product_cls.inference.predictions import Predictions

HOW = {"val": out_of_fold, "test": blend_predictions}


@dataclass(frozen=True)
class Blended:
    """Several runs as one system.

    Attributes:
        splits: its predictions, by split.
        share: of the retrieval runs where there are softmax runs, too; else None.
        source: where the share comes from, in words.
    """

    splits: dict[str, Predictions]
    share: float | None = None
    source: str = ""


def blend_runs(
    runs: Sequence[Member],
    method: str,
    weights: Sequence[float] | None = None,
    share: float | None = None,
    device: torch.device | None = None,
) -> Blended:
    """The runs as one system: softmax runs vote, retrieval runs are joined by their features.

    Args:
        runs: finished runs.
        method: of the vote, see ``blend``.
        weights: one a run; runs of weight 0 are left out.
        share: of the retrieval runs in a joint system, 0 to 1; None tunes it on the pictures that
            both kinds of runs held out, without which (fold=all) both count one half.
        device: where retrieval runs are searched; the CPU where None.

    Raises:
        UserError: weights or a share that do not fit, or runs that cannot be blended.
    """
    if share is not None and not 0 <= share <= 1:
        raise UserError(f"share={share}; allowed: 0 to 1, or null to tune it.")
    chosen = check_weights(weights, len(runs), [run.name for run in runs]).tolist()
    pairs = [(run, weight) for run, weight in zip(runs, chosen, strict=True) if weight > 0]
    softmax = {s: _vote([p for p in pairs if p[0].gallery is None], s, method) for s in SPLITS}
    retrieval = {
        s: _join([p for p in pairs if p[0].gallery is not None], s, device) for s in SPLITS
    }
    if not any(softmax.values()) or not any(retrieval.values()):
        only = softmax if any(softmax.values()) else retrieval
        return Blended({split: part for split, part in only.items() if part is not None})
    source, held_out = "as given", _held_out_by_both(softmax["val"], retrieval["val"])
    if share is None and held_out[0] is not None and held_out[1] is not None:
        share = tune_share(held_out[0], held_out[1])[0]
        source = f"tuned on {len(held_out[0].id)} held-out pictures"
    elif share is None:
        share, source = 0.5, "nothing to tune it on"
    parts = {"val": held_out, "test": (softmax["test"], retrieval["test"])}
    splits = {
        split: blend_share(one, other, share)
        for split, (one, other) in parts.items()
        if one is not None and other is not None
    }
    return Blended(splits, share, source)


def _held_out_by_both(
    one: Predictions | None, other: Predictions | None
) -> tuple[Predictions | None, Predictions | None]:
    """The pictures that both systems held out: folds may be missing here or there."""
    if one is None or other is None:
        return None, None
    parts = one.rows(np.isin(one.id, other.id)), other.rows(np.isin(other.id, one.id))
    return parts if len(parts[0].id) else (None, None)


def _having(pairs: Sequence[tuple[Member, float]], split: str) -> list[tuple[Member, float]]:
    """Those with predictions of the split: fold=all leaves no validation part.

    Raises:
        UserError: some have predictions of the test part, and some have none.
    """
    having = [pair for pair in pairs if split in pair[0].splits]
    if split == "test" and 0 < len(having) < len(pairs):
        lacking = next(run.name for run, _ in pairs if split not in run.splits)
        raise UserError(f"Run '{lacking}' has no predictions of the test part, others have.")
    return having


def _vote(pairs: Sequence[tuple[Member, float]], split: str, method: str) -> Predictions | None:
    """Softmax runs' predictions as one; None where there are none."""
    if not (having := _having(pairs, split)):
        return None
    parts = [(run.name, run.splits[split]) for run, _ in having]
    return HOW[split](parts, method, [weight for _, weight in having])


def _join(
    pairs: Sequence[tuple[Member, float]], split: str, device: torch.device | None
) -> Predictions | None:
    """Retrieval runs' predictions as one; None where there are none."""
    if not (having := _having(pairs, split)):
        return None
    weights = [weight for _, weight in having]
    runs = [RetrievalRun(r.name, r.splits, r.gallery) for r, _ in having if r.gallery is not None]
    if split == "test":
        return join_runs(runs, split, weights, device)
    return join_out_of_fold(runs, weights, device)
