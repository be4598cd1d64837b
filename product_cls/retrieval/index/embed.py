"""Embed pictures with the networks of an index."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from product_cls.core.errors import UserError
from product_cls.core.progress import progress_bar
from product_cls.data.incoming import Shape, decoded_batches
from product_cls.data.pictures import load_picture
from product_cls.data.viewpoint import seen_at
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_scores
from product_cls.neighbours.join import join_embeddings
from product_cls.retrieval.index.store import GalleryIndex


def weights_digest(predictor: Predictor) -> str:
    """SHA-256 of a network's weights, spec and preprocessing, 16 hexadecimal digits."""
    settings = [predictor.network.spec, list(predictor.size), predictor.fit]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(predictor.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def load_predictors(index: GalleryIndex) -> list[Predictor]:
    """The networks of an index, in the order of its sources.

    Raises:
        UserError: a checkpoint is missing, or its weights differ from those the index was built
            with.
    """
    predictors = []
    for source in index.sources:
        file = Path(source.checkpoint)
        if not file.is_file():
            raise UserError(
                f"The index {index.folder} embeds with the checkpoint {file}, which is missing; "
                "restore it or build the index again."
            )
        predictor = Predictor.load(file)
        if weights_digest(predictor) != source.digest:
            raise UserError(
                f"The index {index.folder} was built with other weights than {file} holds now; "
                "build it again."
            )
        predictors.append(predictor)
    return predictors


@dataclass(frozen=True)
class EmbeddedPictures:
    """Embeddings of the n pictures that could be decoded.

    Attributes:
        row: int64 ``[n]``, positions in the list of pictures.
        embedding: joined embeddings, float32 ``[n, D]``, L2-normalised.
        class_scores: float32 ``[n, C]``, mean of the heads' scores, weighted by run; 0 for classes
            that were added to the index later, which no head knows.
        unreadable: position -> reason, for pictures that cannot be decoded.
    """

    row: np.ndarray
    embedding: np.ndarray
    class_scores: np.ndarray
    unreadable: dict[int, str]


def embed_images(
    index: GalleryIndex,
    predictors: Sequence[Predictor],
    images: Mapping[Shape, Tensor],
    *,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed one batch of B pictures for an index.

    Args:
        predictors: from ``load_predictors``; their networks are moved to ``device``.
        images: uint8 ``[B, 3, H, W]``, by the ``(size, fit)`` of each predictor.

    Returns:
        Joined embeddings, float32 ``[B, D]``, L2-normalised; and the mean of the heads' scores,
        weighted by run, float32 ``[B, C]``, 0 for classes that were added to the index later.
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
    pitches: Sequence[float] | None = None,
) -> EmbeddedPictures:
    """Embed pictures for an index; each is decoded once for all networks.

    Args:
        predictors: from ``load_predictors``; their networks are moved to ``device``.
        paths: one or more picture files.
        batch_size: pictures embedded at a time.
        pitches: degrees by which each picture is tilted, see ``viewpoint.seen_at``; None for none.

    Raises:
        UserError: no picture can be decoded.
    """
    shapes = {(predictor.size, predictor.fit) for predictor in predictors}
    unreadable: dict[int, str] = {}
    rows: list[int] = []
    # Joined embeddings of 72,000 pictures take 1.5 GB, so batches are written in place.
    embedding = np.empty((len(paths), index.embedding.shape[1]), np.float32)
    class_scores = np.zeros((len(paths), len(index.classes)), np.float32)

    def load(row: int) -> np.ndarray:
        picture = load_picture(paths[row])
        return picture if pitches is None else seen_at(picture, pitches[row])

    batches = decoded_batches(
        load,
        len(paths),
        shapes,
        batch_size,
        unreadable.__setitem__,
    )
    total = math.ceil(len(paths) / batch_size)
    for batch_rows, images in progress_bar(batches, "embed", total, unit="batch", leave=False):
        block = slice(len(rows), len(rows) + len(batch_rows))
        embedding[block], class_scores[block] = embed_images(
            index, predictors, images, device=device
        )
        rows += batch_rows
    if not rows:
        raise UserError(
            f"None of the {len(paths)} pictures can be decoded; the first is {paths[0]}."
        )
    count = len(rows)
    return EmbeddedPictures(np.array(rows), embedding[:count], class_scores[:count], unreadable)
