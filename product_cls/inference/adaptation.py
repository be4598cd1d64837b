"""Adapts networks to the unlabelled pictures that they are to name, by domain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from product_cls.data.fold_names import view_name
from product_cls.data.incoming import decoded_batches
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.models.batch_norms import adapted, check_batch_norms
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
    # A batch of one picture has no variance of its own in layers of one pixel.
    images = (batch["image"] for batch in batches if len(batch["image"]) > 1)
    return adapted(network, (network.prepare(part.to(device)) for part in images), share)


def adapt_to_files(
    predictor: Predictor, paths: Sequence[Path], share: float, device: torch.device
) -> Predictor:
    """A predictor whose network has the batch norm statistics of some picture files.

    Files are decoded once for each network, in a fixed order that mixes folders.

    Args:
        predictor, share, device: see ``adapt_network``.
        paths: of pictures that can be decoded, 2 or more.

    Raises:
        ValueError: as in ``adapted``.
    """
    check_batch_norms(predictor.network, f"the network {predictor.network.spec['backbone']}")
    order = np.random.default_rng(0).permutation(len(paths))
    shape = (predictor.size, predictor.fit)
    batches = decoded_batches(
        lambda number: load_picture(paths[order[number]]),
        len(paths),
        {shape},
        batch_size(len(paths)),
        lambda number, why: None,  # scoring reports it
    )
    images = ({"image": pictures[shape]} for _, pictures in batches)
    return replace(predictor, network=adapt_network(predictor.network, images, share, device))
