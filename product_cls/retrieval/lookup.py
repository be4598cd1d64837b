"""Neighbours in an index, with what improves neighbours by neighbours."""

from dataclasses import dataclass

import numpy as np
import torch

from product_cls.retrieval.gallery_index import GalleryIndex
from product_cls.retrieval.neighbours import Neighbours, search_exact
from product_cls.retrieval.refine import augment_database, expand_queries, prototypes, rerank

CANDIDATES = 100  # ranked anew by ``rerank``, or k where that is more


@dataclass(frozen=True)
class Found:
    """Neighbours with their labels and pictures.

    Attributes:
        similarity: float32 ``[N, k]``, best first.
        target: int64 ``[N, k]``, positions in the index's classes.
        picture: int64 ``[N, k]``, rows of the index; of a prototype, its product's nearest picture.
    """

    similarity: np.ndarray
    target: np.ndarray
    picture: np.ndarray


def find_neighbours(
    index: GalleryIndex,
    queries: np.ndarray,
    k: int,
    *,
    expand: int = 0,
    augment: int = 0,
    by_prototype: bool = False,
    reranked: bool = False,
    device: torch.device | None = None,
) -> Found:
    """Search an index, with what improves neighbours by neighbours.

    In this order: the gallery is augmented, queries are expanded by it, it is reduced to
    prototypes, searched, and what was found is ranked anew.

    Args:
        queries: float32 ``[N, D]``, of length 1.
        k: neighbours.
        expand, augment, by_prototype, reranked: see ``search.Arguments``.

    Raises:
        UserError: what the functions of ``refine.py`` and the search refuse.
    """
    gallery, picture, target = index.embedding, np.arange(len(index.id)), index.target
    if augment:
        gallery = augment_database(gallery, neighbours=augment, device=device)
    if expand:
        queries = expand_queries(queries, gallery, neighbours=expand, device=device)
    if by_prototype:
        means, target = prototypes(gallery, index.target, len(index.classes))
        members = [np.flatnonzero(index.target == one) for one in target]
        picture = np.array(
            [
                rows[(gallery[rows] @ mean).argmax()]
                for rows, mean in zip(members, means, strict=True)
            ]
        )
        gallery = means
    found: Neighbours
    if reranked:
        candidates = max(CANDIDATES, k)
        found = rerank(queries, gallery, k, candidates=candidates, device=device)
    elif gallery is index.embedding:
        found = index.search(queries, k, device=device)
    else:
        found = search_exact(queries, gallery, k, device=device)
    return Found(found.similarity, target[found.position], picture[found.position])
