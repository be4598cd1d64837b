"""Galleries, the labelled pictures that a run embedded, and the vote of neighbours in them."""

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
    """Embeddings of M labelled pictures.

    Attributes:
        id: ids of the samples, text ``[M]``.
        path: paths of the picture files, text ``[M]``.
        target: int64 ``[M]``, positions in ``classes``; negative if unknown.
        classes: names of the classes, text ``[C]``.
        embedding: float32 ``[M, D]``, L2-normalised, averaged over test-time augmentation.
        embedding_no_tta: the same, of the unaugmented pictures.

    Raises:
        ValueError: arrays of other types or shapes, labels that are no class, or embeddings with
            NaN or infinity.
    """

    id: np.ndarray
    path: np.ndarray
    target: np.ndarray
    classes: np.ndarray
    embedding: np.ndarray
    embedding_no_tta: np.ndarray

    def __post_init__(self) -> None:
        for name, kind, dimensions in (
            ("id", "U", 1),
            ("path", "U", 1),
            ("classes", "U", 1),
            ("target", "i", 1),
            ("embedding", "f", 2),
            ("embedding_no_tta", "f", 2),
        ):
            array = getattr(self, name)
            # An empty list of names has no type of text.
            if array.ndim != dimensions or (array.dtype.kind not in (kind, "O") and len(array)):
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
            if name != "classes" and len(array) != len(self.id):
                raise ValueError(f"{name} has {len(array)} rows, and id has {len(self.id)}")
            if kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity")
        if self.embedding.shape != self.embedding_no_tta.shape:
            raise ValueError("embedding and embedding_no_tta have different shapes")
        if self.target.max(initial=-1) >= len(self.classes):
            raise ValueError(f"target names class {self.target.max()} of {len(self.classes)}")

    def save(self, file: Path) -> None:
        """Write the file whole or not at all, without pickle."""
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
            UserError: the file is missing or holds no gallery.
        """
        return load_arrays(file, lambda arrays: cls(**arrays), "file of gallery embeddings")

    def rows(self, rows: np.ndarray) -> "Gallery":
        """Some rows, by position (int) or mask (bool ``[M]``)."""
        names = ("id", "path", "target", "embedding", "embedding_no_tta")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def without(self, ids: np.ndarray) -> "Gallery":
        """The gallery without these ids, text ``[K]``, so that no query finds itself."""
        return self.rows(~np.isin(self.id, ids))

    def without_tta(self) -> "Gallery":
        """The same gallery with the embeddings of the unaugmented pictures."""
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
    """Class scores from the vote of each query's nearest gallery pictures.

    Args:
        queries: float32 ``[N, D]``, L2-normalised.
        gallery: float32 ``[M, D]``, L2-normalised.
        labels: int64 ``[M]``, classes of the gallery pictures.
        num_classes: C.
        vote: how neighbours vote; a gallery smaller than ``vote.k`` votes as a whole.
        class_scores: ``[N, C]``, probabilities of the head; for ``winners`` only.
        device: where to search; None for the CPU.

    Returns:
        float32 ``[N, C]``; rows sum to 1.

    Raises:
        UserError: an empty gallery.
    """
    neighbours = search_exact(queries, gallery, max(1, min(vote.k, len(gallery))), device=device)
    return vote.scores(
        neighbours.similarity, labels[neighbours.position], num_classes, class_scores
    )


def vote_by_neighbours(
    head: Predictions, gallery: Gallery, vote: Vote, device: torch.device | None = None
) -> Predictions:
    """Replace the head's scores by the vote of neighbours.

    Args:
        head: predictions of the head, with embeddings; its scores are kept as ``class_scores``.
        gallery: has the same classes, and none of the predicted pictures.
        vote: how neighbours vote.
        device: where to search; None for the CPU.

    Raises:
        UserError: an empty gallery.
    """
    assert head.embedding is not None and head.embedding_no_tta is not None
    scores_by_tta = [
        neighbour_scores(
            queries,
            embeddings,
            gallery.target,
            len(head.classes),
            vote,
            class_scores=scores,
            device=device,
        )
        for queries, embeddings, scores in (
            (head.embedding, gallery.embedding, head.scores),
            (head.embedding_no_tta, gallery.embedding_no_tta, head.scores_no_tta),
        )
    ]
    return replace(
        head,
        scores=scores_by_tta[0],
        scores_no_tta=scores_by_tta[1],
        class_scores=head.scores,
        class_scores_no_tta=head.scores_no_tta,
    )


def retrieval_summary(
    predictions: Predictions, gallery: Gallery, device: torch.device | None = None
) -> dict[str, float]:
    """Retrieval metrics of a split, in addition to the accuracy of the vote.

    Args:
        predictions: from ``vote_by_neighbours``.
        gallery: without the predicted pictures.
        device: where to search; None for the CPU.

    Returns:
        ``recall@1``, ``recall@5``, ``mAP@R``, and ``class_accuracy`` of the head alone, in [0, 1];
        empty if labels are unknown.
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
