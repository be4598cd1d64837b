"""An index as a model that names pictures."""

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import torch

from product_cls.data.incoming import Shape
from product_cls.inference.predictor import Predictor
from product_cls.inference.systems import PictureBatch, PictureModel
from product_cls.inference.tta import check_views
from product_cls.retrieval.index.embed import embed_images
from product_cls.retrieval.index.lookup import find_neighbours, own_rows, rows_by_file
from product_cls.retrieval.index.store import GalleryIndex


class IndexModel(PictureModel):
    """Embeds pictures with an index's networks and lets their neighbours in the index vote.

    A picture file that is itself in the index does not count as its own neighbour, as in
    ``retrieval.search``.

    Args:
        index: on disk, or in memory.
        predictors: its networks, in the order of its sources; moved to ``device``.
        device: where to embed and to search.

    Raises:
        UserError: a view is unknown or does not suit a network's picture size.
    """

    def __init__(
        self, index: GalleryIndex, predictors: Sequence[Predictor], device: torch.device
    ) -> None:
        for source, predictor in zip(index.sources, predictors, strict=True):
            check_views(source.tta, predictor.size)
        self.index, self.predictors, self.device = index, list(predictors), device
        self.task, self.classes = copy(predictors[0].task), list(index.classes)
        self.task.classes = self.classes  # with products that were added to the index
        self._rows_by_file = rows_by_file(index)
        self.how = f"the neighbours among {len(index.id)} pictures ({index.vote})"

    @property
    def shapes(self) -> set[Shape]:
        return {(predictor.size, predictor.fit) for predictor in self.predictors}

    def change_networks(self, change: Callable[[Predictor], Predictor]) -> None:
        """Change the networks that embed the pictures; the gallery keeps its embeddings."""
        self.predictors = [change(predictor) for predictor in self.predictors]

    def score(self, batch: PictureBatch) -> np.ndarray:
        embedding, class_scores = self._embedded(batch)
        own = own_rows(self._rows_by_file, batch.paths)
        # If the gallery has fewer pictures than the vote's k, all of them vote.
        k = max(1, min(self.index.vote.k, len(self.index.id) - own.shape[1]))
        matches = find_neighbours(self.index, embedding, k, own=own, device=self.device)
        return self.index.vote.scores(
            matches.similarity, matches.target, len(self.classes), class_scores
        )

    def embed_batch(self, batch: PictureBatch) -> np.ndarray:
        return self._embedded(batch)[0]

    def _embedded(self, batch: PictureBatch) -> tuple[np.ndarray, np.ndarray]:
        return embed_images(self.index, self.predictors, batch.images, device=self.device)
