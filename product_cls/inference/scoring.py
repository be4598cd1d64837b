"""Scores and embeddings of pictures, averaged over test-time augmentation (TTA)."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from product_cls.core.errors import UserError
from product_cls.core.progress import progress_bar
from product_cls.inference.tta import build_views
from product_cls.models.network import Network
from product_cls.tasks import Task


@dataclass(frozen=True)
class Scores:
    """Scores of N pictures.

    Attributes:
        index: int64 ``[N]``, the batches' ``index``.
        tta: float32 ``[N, C]``, mean over the views.
        plain: float32 ``[N, C]``, of the unaugmented picture.
        embedding: float32 ``[N, D]``, mean over the views, L2-normalised; None in tasks without
            embeddings.
        embedding_plain: the same, of the unaugmented picture.
    """

    index: np.ndarray
    tta: np.ndarray
    plain: np.ndarray
    embedding: np.ndarray | None = None
    embedding_plain: np.ndarray | None = None


@torch.inference_mode()
def predict_scores(
    network: Network,
    task: Task,
    batches: Iterable[Mapping[str, Any]],
    views: Sequence[str],
    *,
    device: torch.device,
    bf16: bool = False,
    limit: int | None = None,
    description: str | None = None,
) -> Scores:
    """Score every picture of ``batches``, averaged over the views.

    Args:
        network: is moved to ``device`` and put into evaluation mode.
        batches: with ``image``, uint8 ``[B, 3, H, W]``, and ``index``, int64 ``[B]``.
        views: names for ``tta.build_views``.
        bf16: autocast to bfloat16.
        limit: number of batches to stop after; None for all.
        description: of the progress bar; None for no bar.

    Raises:
        UserError: a score or an embedding is NaN or infinite.
    """
    view_functions = build_views(views)
    network.to(device).eval()
    cast = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
    parts: list[tuple[np.ndarray, ...]] = []
    bar = progress_bar(batches, description, disable=description is None, unit="batch", leave=False)
    for count, batch in enumerate(bar):
        if limit is not None and count >= limit:
            break
        images = network.prepare(batch["image"].to(device, non_blocking=True))

        def scored(images: Tensor) -> list[Tensor]:
            with cast:
                outputs = network(images)
            embedding = task.embedding(outputs)
            return [task.scores(outputs)] + ([] if embedding is None else [embedding])

        # Each named view counts once: five crops weigh as much as the whole picture.
        by_view = {
            name: _means([scored(out) for out in view(images)])
            for name, view in view_functions.items()
        }
        plain = by_view["identity"] if "identity" in by_view else scored(images)
        mean = _means(list(by_view.values()))
        mean[1:] = [normalize(embedding, dim=1) for embedding in mean[1:]]
        arrays = [array.cpu().numpy() for pair in zip(mean, plain, strict=True) for array in pair]
        parts.append((np.asarray(batch["index"]), *arrays))
    scores = Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    for column in (scores.tta, scores.plain, scores.embedding, scores.embedding_plain):
        if column is not None:
            refuse_diverged(column)
    return scores


def refuse_diverged(scores: np.ndarray) -> None:
    """Check scores ``[N, C]`` or embeddings ``[N, D]``.

    Raises:
        UserError: one is NaN or infinite. NaN would be taken for the best score of the first class.
    """
    odd = int((~np.isfinite(scores).all(axis=1)).sum())
    if odd:
        raise UserError(
            f"The model gives scores that are NaN or infinite for {odd} of {len(scores)} pictures: "
            "its training has diverged (lower optimizer.lr or set trainer.gradient_clip_val=1), or "
            "its file is damaged."
        )


@torch.inference_mode()
def predict_embeddings(
    network: Network,
    task: Task,
    batches: Iterable[Mapping[str, Any]],
    views: Sequence[str],
    *,
    device: torch.device,
) -> np.ndarray:
    """Embeddings of the N pictures of ``batches``, averaged over the views.

    In tasks without embeddings, these are the L2-normalised pooled features, the head's input.

    Args:
        network, batches, views: see ``predict_scores``.

    Returns:
        float32 ``[N, D]``, L2-normalised.
    """
    view_functions = build_views(views)
    network.to(device).eval()

    def embed(images: Tensor) -> list[Tensor]:
        features = network.pooled(images).float()
        embedding = task.embedding(network.head(features))
        return [normalize(features, dim=1) if embedding is None else embedding]

    parts = []
    for batch in batches:
        images = network.prepare(batch["image"].to(device))
        by_view = [
            _means([embed(out) for out in view(images)])[0] for view in view_functions.values()
        ]
        parts.append(normalize(torch.stack(by_view).mean(0), dim=1).cpu().numpy())
    embeddings = np.concatenate(parts)
    refuse_diverged(embeddings)
    return embeddings


def _means(views: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Mean over the views of each tensor that a view yields."""
    return [torch.stack(same).mean(0) for same in zip(*views, strict=True)]
