"""One label a picture, found by its nearest pictures: an embedding trained with ArcFace."""

import math
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError
from product_cls.models.heads import ArcMargin, Embedded, EmbeddingHead
from product_cls.neighbours.votes import Vote
from product_cls.tasks.single_label import SingleLabel


class Retrieval(SingleLabel):
    """Embeddings whose neighbours among the training pictures name the product.

    Targets are those of ``SingleLabel``. The network's scores are ArcFace's softmax, whose accuracy
    is ``class_accuracy``; what predictions files hold as scores, and ``accuracy`` measures, is the
    neighbours' vote. By that the best epoch is chosen where each is searched, else by the former.

    Args:
        label, loss, classes, weights: as for ``SingleLabel``; a loss with ``on_embeddings``
            (triplet) shapes the embedding alone, and class directions then follow it by cross
            entropy, which is what weights go to.
        embedding: features of the embedding.
        scale, margin, easy_margin, subcenters: of ``ArcMargin``.
        margin_range: margins of the most and the least frequent class, between which those of the
            others go by n^(-1/4) (Ha et al. 2020, arXiv 2010.05350); in place of ``margin``.
        margin_warmup: share of the training in which the margin rises from 0, in [0, 1].
        vote: arguments of ``Vote``: how neighbours become scores.
        gallery_every: epochs between searches of the validation pictures in the training gallery;
            0 for none.
    """

    name: ClassVar[str] = "retrieval"
    embeds: ClassVar[bool] = True
    needs_gallery: ClassVar[bool] = True
    smallest_batch: ClassVar[int] = 2  # batch norm needs the statistics of several embeddings

    def __init__(
        self,
        label: str = "label",
        loss: nn.Module | None = None,
        classes: list[str] | None = None,
        *,
        embedding: int = 512,
        scale: float = 45.0,
        margin: float = 0.4,
        easy_margin: bool = False,
        subcenters: int = 1,
        margin_range: list[float] | None = None,
        margin_warmup: float = 0.0,
        weights: str | None = None,
        vote: dict[str, Any] | None = None,
        gallery_every: int = 1,
    ) -> None:
        super().__init__(label, loss, classes, weights=weights)
        if isinstance(embedding, bool) or not isinstance(embedding, int) or embedding < 1:
            raise UserError(f"task.embedding={embedding}; allowed: a whole number, 1 or more.")
        if not 0 <= margin_warmup <= 1:
            raise UserError(f"task.margin_warmup={margin_warmup}; allowed: 0 to 1.")
        if gallery_every < 0:
            raise UserError(f"task.gallery_every={gallery_every}; allowed: 0 (never) or more.")
        if margin_range is not None and len(margin_range) != 2:
            raise UserError(f"task.margin_range={margin_range}; allowed: null or [low, high].")
        self.embedding_size = embedding
        self.arc: dict[str, Any] = {
            "scale": scale,
            "easy_margin": easy_margin,
            "subcenters": subcenters,
        }
        self.margin: float | list[float] = margin
        self.margin_range, self.margin_warmup = margin_range, margin_warmup
        self.vote, self.validation_gallery_every = Vote(**vote or {}), gallery_every
        self.monitor = "val/accuracy" if gallery_every == 1 else "val/class_accuracy"
        self.mixes = not self.takes_embeddings
        self._class_loss = nn.CrossEntropyLoss() if self.takes_embeddings else self._loss
        ArcMargin(1, 1, margin=margin, **self.arc)  # refuses wrong values before anything is read
        self._margin: ArcMargin | None = None

    @property
    def class_loss(self) -> nn.Module:
        return self._class_loss

    def fit(self, samples: pd.DataFrame) -> None:
        super().fit(samples)
        if self.margin_range is not None:
            self.margin = margins_by_size(self.counts, *self.margin_range)

    def head(self, in_features: int) -> EmbeddingHead:
        self._margin = ArcMargin(
            self.embedding_size, len(self.classes), margin=self.margin, **self.arc
        )
        return EmbeddingHead(
            in_features, self.embedding_size, self._margin, detached=self.takes_embeddings
        )

    def begin_epoch(self, done: float) -> None:
        if self._margin is not None and self.margin_warmup > 0:
            self._margin.strength = min(1.0, done / self.margin_warmup)

    def loss(self, outputs: Embedded, target: Tensor) -> Tensor:
        assert self._margin is not None, "the head is made first"
        logits = self._margin.logits(outputs.cosine, None if self.takes_embeddings else target)
        value: Tensor = self._class_loss.to(logits.device)(logits, target)
        if self.takes_embeddings:
            value = value + self._loss(outputs.embedding, target)
        return value

    def metrics(self) -> MetricCollection:
        return super().metrics().clone(prefix="class_")

    def scores(self, outputs: Embedded) -> Tensor:
        return torch.softmax(self.arc["scale"] * outputs.cosine.float(), dim=-1)

    def embedding(self, outputs: Embedded) -> Tensor:
        return nn.functional.normalize(outputs.embedding.float(), dim=1)

    def spec(self) -> dict[str, Any]:
        return {
            **super().spec(),
            "embedding": self.embedding_size,
            **self.arc,
            "vote": self.vote.spec(),
        }


def margins_by_size(counts: np.ndarray, low: float, high: float) -> list[float]:
    """Larger margins for classes with fewer pictures, by n^(-1/4) between two ends.

    Args:
        counts: pictures of each class, ``[C]``, 1 or more.
        low, high: margins of the largest and the smallest class, radians; all get the mean of the
            two where all classes are of one size.

    Raises:
        UserError: ends that are no margins, or the wrong way round.
    """
    if not 0 <= low <= high <= math.pi / 2:
        raise UserError(f"task.margin_range=[{low},{high}]; allowed: 0 <= low <= high <= pi / 2.")
    rarity = np.asarray(counts, dtype=np.float64) ** -0.25
    spread = rarity.max() - rarity.min()
    share = (rarity - rarity.min()) / spread if spread > 0 else np.full(len(rarity), 0.5)
    return [float(value) for value in low + (high - low) * share]
