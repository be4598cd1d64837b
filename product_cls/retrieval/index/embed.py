"""Pictures to joined embeddings, by the networks that an index names."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from product_cls.core.errors import UserError
from product_cls.core.progress import progress_bar
from product_cls.data.incoming import read_ahead
from product_cls.data.pictures import load_picture, resize
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_scores
from product_cls.neighbours.join import join_embeddings
from product_cls.retrieval.index.store import GalleryIndex


def weights_digest(predictor: Predictor) -> str:
    """SHA-256 of a network's weights and of how pictures are brought to it, 16 hex digits."""
    how = [predictor.network.spec, list(predictor.size), predictor.fit]
    found = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
    for name, tensor in sorted(predictor.network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def load_predictors(index: GalleryIndex) -> list[Predictor]:
    """The networks of an index, in its order.

    Raises:
        UserError: a checkpoint is missing, or holds other weights than the index was made with.
    """
    predictors = []
    for source in index.sources:
        file = Path(source.checkpoint)
        if not file.is_file():
            raise UserError(
                f"The index {index.folder} embeds with the checkpoint {file}, which is missing; "
                "put it back or build the index anew."
            )
        predictor = Predictor.load(file)
        if weights_digest(predictor) != source.digest:
            raise UserError(
                f"The index {index.folder} was made with other weights than {file} holds now; "
                "build it anew."
            )
        predictors.append(predictor)
    return predictors


@dataclass(frozen=True)
class EmbeddedPictures:
    """Pictures as an index sees them.

    Attributes:
        row: int64 ``[n]``, which of the pictures; those that cannot be decoded are left out.
        embedding: float32 ``[n, D]``, of length 1, joined.
        class_scores: float32 ``[n, C]``, mean of the heads by the runs' weights; 0 for classes that
            were added to the index and no head knows.
        unreadable: row -> why, of those left out.
    """

    row: np.ndarray
    embedding: np.ndarray
    class_scores: np.ndarray
    unreadable: dict[int, str]


def embed_images(
    index: GalleryIndex,
    predictors: Sequence[Predictor],
    images: Mapping[tuple[tuple[int, int], Any], Tensor],
    *,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed one batch of B pictures for an index.

    Args:
        predictors: of ``load_predictors``; all of them are moved to ``device``.
        images: uint8 ``[B, 3, H, W]``, by the ``(size, fit)`` of each predictor.

    Returns:
        Joined embeddings, L2-normalised, float32 ``[B, D]``; and the mean of the heads' scores by
        the runs' weights, float32 ``[B, C]``, 0 for classes that were added to the index later.
    """
    parts, scores = [], []
    for predictor, source in zip(predictors, index.sources, strict=True):
        pictures = images[predictor.size, predictor.fit]
        batch = {"image": pictures, "index": np.arange(len(pictures))}
        scored = predict_scores(
            predictor.network, predictor.task, [batch], source.tta, device=device
        )
        assert scored.embedding is not None
        parts.append(scored.embedding)
        scores.append(scored.tta)
    weights = [source.weight for source in index.sources]
    class_scores = np.zeros((len(parts[0]), len(index.classes)), np.float32)
    class_scores[:, : scores[0].shape[1]] = np.average(scores, axis=0, weights=weights)
    return join_embeddings(parts, weights), class_scores


def embed_pictures(
    index: GalleryIndex,
    predictors: Sequence[Predictor],
    paths: Sequence[Path],
    *,
    batch_size: int,
    device: torch.device,
) -> EmbeddedPictures:
    """Embed pictures for an index, each decoded once for all its networks.

    Args:
        predictors: of ``load_predictors``; all of them are moved to ``device``.
        paths: at least one.

    Raises:
        UserError: none of them can be decoded.
    """
    shapes = {(predictor.size, predictor.fit) for predictor in predictors}
    unreadable: dict[int, str] = {}
    rows: list[int] = []
    # Joined features of 72,000 pictures take 1.5 GB, so they are put where they belong at once.
    embedding = np.empty((len(paths), index.embedding.shape[1]), np.float32)
    class_scores = np.zeros((len(paths), len(index.classes)), np.float32)

    def read(row: int) -> dict[tuple, Tensor]:
        picture = load_picture(paths[row])
        return {
            shape: torch.from_numpy(resize(picture, *shape).transpose(2, 0, 1).copy())
            for shape in shapes
        }

    batches = read_ahead(read, len(paths), batch_size, unreadable.__setitem__)
    total = math.ceil(len(paths) / batch_size)
    for readable in progress_bar(batches, "embed", total, unit="batch", leave=False):
        if not readable:
            continue
        images = {
            shape: torch.stack([by_shape[shape] for by_shape in readable.values()])
            for shape in shapes
        }
        there = slice(len(rows), len(rows) + len(readable))
        embedding[there], class_scores[there] = embed_images(
            index, predictors, images, device=device
        )
        rows += list(readable)
    if not rows:
        raise UserError(
            f"None of the {len(paths)} pictures can be decoded; the first is {paths[0]}."
        )
    count = len(rows)
    return EmbeddedPictures(np.array(rows), embedding[:count], class_scores[:count], unreadable)
