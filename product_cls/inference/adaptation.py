"""Adapts networks to the unlabelled pictures that they are to name, by domain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from product_cls.data.fold_names import view_name
from product_cls.data.incoming import decoded_batches
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.models.batch_norms import adapted, check_batch_norms, informed
from product_cls.models.network import Network
from product_cls.tasks import Task

LARGE = 128  # pictures in a batch for statistics; small batches make them noisy
SMALL = 64  # pictures in a batch for information maximisation, which needs many steps
PER_CLASS = 2  # pictures for each class that information maximisation needs at least
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


def batch_size(count: int, about: int = LARGE) -> int:
    """Size of equal batches of about ``about`` pictures that ``count`` pictures are split into."""
    return -(-count // max(count // about, 1))


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


def too_few(classes: int, rows: int) -> str | None:
    """Why pictures are too few for information maximisation; None if they are not.

    Args:
        classes: that the network knows.
        rows: number of pictures.
    """
    if rows >= PER_CLASS * classes:
        return None
    return (
        f"{rows} pictures are too few for {classes} classes and adapt=infomax, which needs "
        f"{PER_CLASS} for each; adapted as with adapt=batchnorm"
    )


# Number of a pass, from 0, and size of a batch -> batches with `image`, uint8 [B, 3, H, W].
Passes = Callable[[int, int], Iterable[Mapping[str, Any]]]


def adapt_network(
    network: Network,
    passes: Passes,
    count: int,
    share: float,
    device: torch.device,
    scores: Callable[[Any], Tensor] | None = None,
) -> Network:
    """A copy of a network that is adapted to some pictures.

    Args:
        network: is moved to ``device`` and not modified otherwise.
        passes: the pictures as they are (no test-time augmentation), in an order that mixes
            classes and depends on the number of the pass; labels in them are not read.
        count: number of pictures.
        share: of the pictures in the statistics, see ``models.batch_norms.adapted``.
        device: to compute on.
        scores: outputs of the network -> probabilities ``[B, C]``, for information maximisation
            after the statistics (``models.batch_norms.informed``); None for the statistics alone.

    Raises:
        ValueError: as in ``adapted``.
    """
    network.to(device)

    def prepared(number: int, size: int) -> Iterable[Tensor]:
        # A batch of one picture has no variance of its own in layers of one pixel.
        parts = (batch["image"] for batch in passes(number, size) if len(batch["image"]) > 1)
        return (network.prepare(part.to(device)) for part in parts)

    changed = adapted(network, prepared(0, batch_size(count)), share)
    if scores is None:
        return changed
    return informed(changed, lambda epoch: prepared(epoch, batch_size(count, SMALL)), scores)


def adapt_to_files(
    predictor: Predictor,
    paths: Sequence[Path],
    share: float,
    device: torch.device,
    method: str = "batchnorm",
) -> Predictor:
    """A predictor whose network is adapted to some picture files.

    Files are decoded once in each pass for each network, in an order that mixes folders.

    Args:
        predictor, share, device: see ``adapt_network``.
        paths: of pictures that can be decoded, 2 or more.
        method: ``batchnorm`` | ``infomax``, which is as ``batchnorm`` with too few pictures.

    Raises:
        ValueError: as in ``adapted``, or ``infomax`` for several labels per picture.
    """
    check_batch_norms(predictor.network, f"the network {predictor.network.spec['backbone']}")
    check_method(method, predictor.task)
    shape = (predictor.size, predictor.fit)

    def passes(number: int, size: int) -> Iterable[Mapping[str, Any]]:
        order = np.random.default_rng(number).permutation(len(paths))
        batches = decoded_batches(
            lambda k: load_picture(paths[order[k]]),
            len(paths),
            {shape},
            size,
            lambda k, why: None,  # scoring reports it
        )
        return ({"image": pictures[shape]} for _, pictures in batches)

    informs = method == "infomax" and too_few(len(predictor.task.classes), len(paths)) is None
    scores = predictor.task.scores if informs else None
    network = adapt_network(predictor.network, passes, len(paths), share, device, scores)
    return replace(predictor, network=network)


def check_method(method: str | None, task: Task) -> None:
    """Refuse information maximisation of a task whose scores are no shares of one label.

    Raises:
        ValueError: it has several labels per picture.
    """
    if method == "infomax" and not getattr(task, "one_label", False):
        raise ValueError(
            f"adapt=infomax is for one label per picture, and task={task.name} has several; "
            "allowed: batchnorm, null."
        )
