"""Neighbours in an index, with query expansion, augmentation, prototypes and re-ranking."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from product_cls.neighbours.exact import Neighbours, search_exact
from product_cls.neighbours.refine import augment_database, expand_queries, prototypes, rerank
from product_cls.retrieval.index.store import GalleryIndex

CANDIDATES = 100  # neighbours that are re-ranked; k if that is more


@dataclass(frozen=True)
class NeighbourMatches:
    """Neighbours of N queries, with their labels and pictures.

    Attributes:
        similarity: float32 ``[N, k]``, best first.
        target: int64 ``[N, k]``, positions in the index's classes.
        picture: int64 ``[N, k]``, rows of the index; for a prototype, the nearest picture of its
            product.
    """

    similarity: np.ndarray
    target: np.ndarray
    picture: np.ndarray

    def best(self, k: int) -> "NeighbourMatches":
        """The ``k`` nearest of each query."""
        return NeighbourMatches(self.similarity[:, :k], self.target[:, :k], self.picture[:, :k])


def rows_by_file(index: GalleryIndex) -> dict[tuple[str, str], list[int]]:
    """Rows of the index by picture file, as (real folder, file name)."""
    rows = defaultdict(list)
    for row, file in enumerate(_files(index.path)):
        rows[file].append(row)
    return dict(rows)


def own_rows(
    by_file: Mapping[tuple[str, str], list[int]], paths: Sequence[Path | None]
) -> np.ndarray:
    """Rows of the index that hold the queried picture files themselves.

    Links to folders are followed; a copy of a picture counts as another picture.

    Args:
        by_file: from ``rows_by_file``.
        paths: N picture files; None for a picture without a file.

    Returns:
        int64 ``[N, c]``, padded with -1; ``c`` is mostly 1, and 0 if no picture is in the index.
    """
    rows: list[list[int]] = [[] for _ in paths]
    with_file = [(k, path) for k, path in enumerate(paths) if path is not None]
    for (k, _), file in zip(with_file, _files([path for _, path in with_file]), strict=True):
        rows[k] = by_file.get(file, [])
    own = np.full((len(rows), max(map(len, rows), default=0)), -1)
    for k, row in enumerate(rows):
        own[k, : len(row)] = row
    return own


def _files(paths: Iterable[str | Path]) -> Iterable[tuple[str, str]]:
    real = cache(os.path.realpath)  # many pictures share few folders
    for folder, name in map(os.path.split, paths):
        yield real(folder), name


def find_neighbours(
    index: GalleryIndex,
    queries: np.ndarray,
    k: int,
    *,
    own: np.ndarray | None = None,
    expand: int = 0,
    augment: int = 0,
    by_prototype: bool = False,
    reranked: bool = False,
    device: torch.device | None = None,
) -> NeighbourMatches:
    """Search an index.

    The steps, in this order: augment the gallery, expand queries with it, reduce it to prototypes,
    search it, and re-rank the results.

    Args:
        queries: float32 ``[N, D]``, L2-normalised.
        k: number of neighbours of each query.
        own: int64 ``[N, c]`` from ``own_rows``: rows that do not count as neighbours of the query.
            They still contribute to prototypes, augmentation, expansion and re-ranking.
        expand, augment, by_prototype, reranked: see ``search.Arguments``.
        device: where to search; None for the CPU.

    Raises:
        ValueError: a setting is out of range, see ``refine.py`` and ``search_exact``.
        UserError: the index cannot be searched.
    """
    gallery, picture, target = index.embedding, np.arange(len(index.id)), index.target
    if augment:
        gallery = augment_database(gallery, neighbours=augment, device=device)
    if expand:
        queries = expand_queries(queries, gallery, neighbours=expand, device=device)
    if by_prototype:
        means, target = prototypes(gallery, index.target, len(index.classes))
        members = [np.flatnonzero(index.target == label) for label in target]
        picture = np.array(
            [
                rows[(gallery[rows] @ mean).argmax()]
                for rows, mean in zip(members, means, strict=True)
            ]
        )
        gallery = means
    requested = k
    if own is not None and not by_prototype:
        k += own.shape[1]
    matches: Neighbours
    if reranked:
        candidates = max(CANDIDATES, k)
        matches = rerank(queries, gallery, k, candidates=candidates, device=device)
    elif gallery is index.embedding:
        matches = index.search(queries, k, device=device)
    else:
        matches = search_exact(queries, gallery, k, device=device)
    if k > requested:
        assert own is not None
        is_own = (matches.position[:, :, None] == own[:, None, :]).any(axis=2)
        columns = np.argsort(is_own, axis=1, kind="stable")[:, :requested]
        matches = Neighbours(
            np.take_along_axis(matches.similarity, columns, axis=1),
            np.take_along_axis(matches.position, columns, axis=1),
        )
    return NeighbourMatches(matches.similarity, target[matches.position], picture[matches.position])
