"""Embeddings of labelled pictures, as a run leaves them, and what their neighbours say."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from product_cls.core.arrays import load_arrays, save_arrays
from product_cls.inference.predictions import Predictions
from product_cls.neighbours.exact import search_exact
from product_cls.neighbours.metrics import retrieval_measures
from product_cls.neighbours.votes import Vote


@dataclass(frozen=True)
class Gallery:
    """A gallery: pictures whose label is known, embedded.

    Attributes:
        id: of the samples, ``[M]``.
        path: of the picture files, ``[M]``.
        target: int64 ``[M]``, positions in ``classes``; negative where unknown.
        classes: names, ``[C]``.
        embedding: float32 ``[M, D]``, of length 1, averaged over test-time augmentation.
        embedding_no_tta: the same of the pictures as they are.
    """

    id: np.ndarray
    path: np.ndarray
    target: np.ndarray
    classes: np.ndarray
    embedding: np.ndarray
    embedding_no_tta: np.ndarray

    def __post_init__(self) -> None:
        assert len(self.id) == len(self.path) == len(self.target) == len(self.embedding)
        assert self.embedding.shape == self.embedding_no_tta.shape

    def save(self, file: Path) -> None:
        """Write whole or not at all; no pickle in it."""
        text = {name: getattr(self, name).astype(np.str_) for name in ("id", "path", "classes")}
        vectors = {
            name: getattr(self, name).astype(np.float32)
            for name in ("embedding", "embedding_no_tta")
        }
        save_arrays(file, {**text, "target": self.target.astype(np.int64), **vectors})

    @classmethod
    def load(cls, file: Path) -> "Gallery":
        """Read a file that ``save`` wrote.

        Raises:
            UserError: it is missing or no such file.
        """
        return load_arrays(file, lambda arrays: cls(**arrays), "file of gallery embeddings")

    def rows(self, rows: np.ndarray) -> "Gallery":
        """Some rows, by position or mask."""
        names = ("id", "path", "target", "embedding", "embedding_no_tta")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def without(self, ids: np.ndarray) -> "Gallery":
        """All but these ids: of validation pictures, which must not find themselves."""
        return self.rows(~np.isin(self.id, ids))

    def without_tta(self) -> "Gallery":
        """The same, with the embeddings of the pictures as they are."""
        return replace(self, embedding=self.embedding_no_tta)


def neighbour_scores(
    queries: np.ndarray,
    gallery: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    vote: Vote,
    *,
    class_scores: np.ndarray | None = None,
    device: torch.device | None = None,
) -> np.ndarray:
    """Scores of classes by the vote of a gallery's nearest pictures.

    Args:
        queries: float32 ``[N, D]``, of length 1.
        gallery: float32 ``[M, D]``, of length 1.
        labels: int64 ``[M]``, classes of the gallery.
        num_classes: C.
        vote: which neighbours count, and how; all of a gallery that has fewer than ``vote.k``.
        class_scores: ``[N, C]``, of the head.

    Returns:
        float32 ``[N, C]``, rows sum to 1.

    Raises:
        UserError: an empty gallery.
    """
    found = search_exact(queries, gallery, max(1, min(vote.k, len(gallery))), device=device)
    return vote.scores(found.similarity, labels[found.position], num_classes, class_scores)


def vote_by_neighbours(
    head: Predictions, gallery: Gallery, vote: Vote, device: torch.device | None = None
) -> Predictions:
    """Predictions of the head with the neighbours' vote in their place.

    Args:
        head: with embeddings; its scores are kept as ``class_scores``.
        gallery: of the same classes, without the pictures that are predicted.

    Raises:
        UserError: an empty gallery.
    """
    assert head.embedding is not None and head.embedding_no_tta is not None
    voted = [
        neighbour_scores(
            queries,
            embedded,
            gallery.target,
            len(head.classes),
            vote,
            class_scores=scores,
            device=device,
        )
        for queries, embedded, scores in (
            (head.embedding, gallery.embedding, head.scores),
            (head.embedding_no_tta, gallery.embedding_no_tta, head.scores_no_tta),
        )
    ]
    return replace(
        head,
        scores=voted[0],
        scores_no_tta=voted[1],
        class_scores=head.scores,
        class_scores_no_tta=head.scores_no_tta,
    )


def retrieval_summary(
    predictions: Predictions, gallery: Gallery, device: torch.device | None = None
) -> dict[str, float]:
    """What a run's metrics say beside the vote's accuracy; empty where labels are unknown.

    Args:
        predictions: of ``vote_by_neighbours``.
        gallery: without the pictures that are predicted.

    Returns:
        ``recall@1``, ``recall@5``, ``mAP@R``, and ``class_accuracy`` of the head alone.
    """
    assert predictions.embedding is not None and predictions.class_scores is not None
    measures = retrieval_measures(
        predictions.embedding,
        predictions.target,
        gallery.embedding,
        gallery.target,
        device=device,
    )
    head = predictions.make_task().evaluate(predictions.class_scores, predictions.target)
    return measures | {f"class_{name}": value for name, value in head.items()}
