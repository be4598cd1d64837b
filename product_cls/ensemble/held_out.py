"""Held-out pictures, on which weights and shares are tuned."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from product_cls.data.fold_names import view_name
from product_cls.ensemble.weights import random_parts
from product_cls.inference.predictions import Predictions


def parts_of(held_out: Sequence[Predictions], ids: np.ndarray) -> tuple[np.ndarray, str]:
    """The parts of held-out pictures that cross-fitting leaves out in turn.

    Args:
        held_out: validation splits of the runs; runs of one fold have the same.
        ids: of the pictures, text ``[N]``.

    Returns:
        The part of each picture, int ``[N]`` from 0 without gaps, and a description: parts are the
        folds, or random parts of a single fold.
    """
    blocks = list(dict.fromkeys(frozenset(part.id.tolist()) for part in held_out))
    fold = [next(k for k, block in enumerate(blocks) if i in block) for i in ids.tolist()]
    part = np.unique(fold, return_inverse=True)[1].reshape(-1)
    if (count := int(part.max()) + 1) > 1:
        return part, f"{count} folds"
    part = random_parts(len(ids))
    return part, f"{part.max() + 1} random parts of one fold"


def unseen_views(runs: Sequence[Mapping[str, Predictions]]) -> list[str]:
    """A warning if the test has views that random folds do not hold out.

    Args:
        runs: predictions by split of each run.
    """

    def views(splits: Mapping[str, Predictions], split: str) -> set[str]:
        view = splits[split].view if split in splits else None
        return {view_name(v) for v in pd.Series(view).dropna().unique() if v != ""}

    held_out = [views(splits, "val") for splits in runs]
    unseen = views(runs[0], "test") - {view for block in held_out for view in block}
    # Folds that hold out whole views already represent the test's shift.
    if not unseen or max(map(len, held_out)) < 2:
        return []
    return [
        f"The test has views that no held-out picture has ({', '.join(sorted(unseen))}), and the "
        f"best weights on random folds may be the worst there: folds.strategy=view holds out whole "
        f"views."
    ]
