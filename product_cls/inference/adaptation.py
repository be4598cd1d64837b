"""Adapts networks to the unlabelled pictures that they are to name, by domain."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from product_cls.data.fold_names import view_name
from product_cls.models.batch_norms import adapted
from product_cls.models.network import Network

LARGE = 128  # pictures in a batch for statistics; small batches make them noisy
EVERYTHING = "all pictures"  # name of the only domain where views are unknown


def domains(
    views: pd.Series | None, seen: pd.Series | None, count: int, which: str = "unseen"
) -> dict[str, np.ndarray]:
    """Groups of pictures with statistics of their own: one for each view.

    A view that training shows keeps the training's statistics by default: adapting there costs
    more than it gives.

    Args:
        views: of the pictures; if they are unknown (None, or all missing), all pictures are one
            domain.
        seen: views of the training pictures; None if they are unknown.
        count: number of pictures, N.
        which: ``unseen`` | ``all``, the views to adapt.

    Returns:
        Name of the view -> rows, int64 ``[n]``. Pictures of unknown view are in none.
    """
    if views is None or views.isna().all():
        return {EVERYTHING: np.arange(count)}
    known = set() if seen is None or which == "all" else set(seen.dropna().unique())
    names = sorted(view for view in views.dropna().unique() if view not in known)
    return {f"view {view_name(view)}": np.flatnonzero(views == view) for view in names}


def batch_size(count: int) -> int:
    """Size of equal batches of about ``LARGE`` pictures that ``count`` pictures are split into."""
    return -(-count // max(count // LARGE, 1))


def refusal(scores: np.ndarray, rows: int) -> str | None:
    """Why pictures are no domain to adapt to, in words that follow a name; None if they are.

    Args:
        scores: of the network without adaptation, ``[n, C]``.
        rows: n.
    """
    if rows < 2:
        return "is one picture, and statistics need at least 2"
    if scores.shape[1] > 1 and len(np.unique(scores.argmax(axis=1))) == 1:
        return (
            f"holds {rows} pictures that all seem to show one class, whose statistics would "
            "replace those of all classes"
        )
    return None


def adapt_network(
    network: Network,
    batches: Iterable[Mapping[str, Any]],
    share: float,
    device: torch.device,
) -> Network:
    """A copy of a network with the batch norm statistics of some pictures.

    Args:
        network: is moved to ``device`` and not modified otherwise.
        batches: with ``image``, uint8 ``[B, 3, H, W]``, as they are (no test-time augmentation);
            labels in them are not read.
        share: see ``models.batch_norms.adapted``.

    Raises:
        ValueError: as in ``adapted``.
    """
    network.to(device)
    prepared = (network.prepare(batch["image"].to(device)) for batch in batches)
    return adapted(network, prepared, share)
