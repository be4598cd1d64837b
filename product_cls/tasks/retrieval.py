"""One label per picture, named by its nearest neighbours: an embedding trained with ArcFace."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.arguments import renamed_arguments
from product_cls.models.heads import ArcMargin, EmbeddingHead, EmbeddingOutputs
from product_cls.neighbours.votes import Vote
from product_cls.tasks.single_label import SingleLabel


class Retrieval(SingleLabel):
    """Names a product by the nearest neighbours of its embedding among the training pictures.

    Targets are those of ``SingleLabel``. The head's scores are ArcFace's softmax; their accuracy is
    ``class_accuracy``. Predictions files hold the neighbours' vote instead; its accuracy is
    ``accuracy``. That metric selects the best epoch if every epoch searches the gallery; otherwise
    ``class_accuracy`` does.

    Args:
        label, loss, classes, weights: as for ``SingleLabel``. A loss with ``on_embeddings``
            (triplet) alone trains the embedding; the class directions are then fitted to it by
            cross entropy, and the class weights apply to that.
        embedding: dimension of the embedding.
        scale, margin, easy_margin, subcenters: see ``ArcMargin``.
        margin_range: ``[low, high]``, margins of the most and the least frequent class in radians;
            in between they follow n^(-1/4) (Ha et al. 2020, arXiv 2010.05350). Replaces ``margin``.
        margin_warmup: share of the training during which the margin rises from 0, in [0, 1].
        vote: arguments of ``Vote``, which turns neighbours into scores.
        gallery_every: epochs between searches of the validation pictures in the gallery of the
            training pictures; 0 for never.

    Raises:
        ValueError: a value outside its range.
    """

    name: ClassVar[str] = "retrieval"
    embeds: ClassVar[bool] = True
    teachable: ClassVar[bool] = False  # ArcFace's margin needs the class of each picture
    vote: Vote
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
            raise ValueError(f"embedding={embedding}; allowed: a whole number, 1 or more.")
        if not 0 <= margin_warmup <= 1:
            raise ValueError(f"margin_warmup={margin_warmup}; allowed: 0 to 1.")
        if gallery_every < 0:
            raise ValueError(f"gallery_every={gallery_every}; allowed: 0 (never) or more.")
        if margin_range is not None and not _is_range(margin_range):
            raise ValueError(
                f"margin_range=[{','.join(map(str, margin_range))}]; allowed: null, or [low, high] "
                f"with 0 <= low <= high <= pi / 2."
            )
        self.embedding_size = embedding
        self.arc: dict[str, Any] = {
            "scale": scale,
            "easy_margin": easy_margin,
            "subcenters": subcenters,
        }
        self.margin: float | list[float] = margin
        self.margin_range, self.margin_warmup = margin_range, margin_warmup
        with renamed_arguments("vote"):
            self.vote = Vote(**vote or {})
        self.validation_gallery_every = gallery_every
        self.monitor = "val/accuracy" if gallery_every == 1 else "val/class_accuracy"
        self.mixes = not self.takes_embeddings
        self._class_loss = nn.CrossEntropyLoss() if self.takes_embeddings else self._loss
        ArcMargin(1, 1, margin=margin, **self.arc)  # refuses wrong values before pictures are read
        self._arc_margin: ArcMargin | None = None

    @property
    def class_loss(self) -> nn.Module:
        return self._class_loss

    # Training

    def fit(self, samples: pd.DataFrame) -> None:
        super().fit(samples)
        if self.margin_range is not None:
            self.margin = margins_by_size(self.counts, *self.margin_range)

    def head(self, in_features: int) -> EmbeddingHead:
        self._arc_margin = ArcMargin(
            self.embedding_size, len(self.classes), margin=self.margin, **self.arc
        )
        return EmbeddingHead(
            in_features, self.embedding_size, self._arc_margin, detached=self.takes_embeddings
        )

    def begin_epoch(self, done: float) -> None:
        if self._arc_margin is not None and self.margin_warmup > 0:
            self._arc_margin.strength = min(1.0, done / self.margin_warmup)

    def loss(self, outputs: EmbeddingOutputs, target: Tensor) -> Tensor:
        assert self._arc_margin is not None, "call head() first"
        logits = self._arc_margin.logits(outputs.cosine, None if self.takes_embeddings else target)
        value: Tensor = self._class_loss.to(logits.device)(logits, target)
        if self.takes_embeddings:
            value = value + self._loss(outputs.embedding, target)
        return value

    def metrics(self) -> MetricCollection:
        return super().metrics().clone(prefix="class_")

    def scores(self, outputs: EmbeddingOutputs) -> Tensor:
        return torch.softmax(self.arc["scale"] * outputs.cosine.float(), dim=-1)

    def embedding(self, outputs: EmbeddingOutputs) -> Tensor:
        return nn.functional.normalize(outputs.embedding.float(), dim=1)

    def spec(self) -> dict[str, Any]:
        return {
            **super().spec(),
            "embedding": self.embedding_size,
            **self.arc,
            "vote": self.vote.spec(),
        }


def _is_range(values: Sequence[float]) -> bool:
    return len(values) == 2 and 0 <= values[0] <= values[1] <= math.pi / 2


def margins_by_size(counts: np.ndarray, low: float, high: float) -> list[float]:
    """Margins that grow with a class's rarity, linear in n^(-1/4) (Ha et al. 2020).

    Args:
        counts: pictures of each class, int ``[C]``, 1 or more.
        low, high: margins of the largest and the smallest class in radians,
            0 <= low <= high <= pi / 2.

    Returns:
        C margins in radians; all are the mean of ``low`` and ``high`` if the classes are of equal
        size.
    """
    rarity = np.asarray(counts, dtype=np.float64) ** -0.25
    spread = rarity.max() - rarity.min()
    share = (rarity - rarity.min()) / spread if spread > 0 else np.full(len(rarity), 0.5)
    return [float(value) for value in low + (high - low) * share]
