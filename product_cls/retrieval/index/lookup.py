"""Neighbours in an index, with what improves neighbours by neighbours."""

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

CANDIDATES = 100  # ranked anew by ``rerank``, or k where that is more


@dataclass(frozen=True)
class NeighbourMatches:
    """Neighbours with their labels and pictures.

    Attributes:
        similarity: float32 ``[N, k]``, best first.
        target: int64 ``[N, k]``, positions in the index's classes.
        picture: int64 ``[N, k]``, rows of the index; of a prototype, its product's nearest picture.
    """

    similarity: np.ndarray
    target: np.ndarray
    picture: np.ndarray


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

    Links to folders are followed; a copy of a picture is another picture.

    Args:
        by_file: of ``rows_by_file``.
        paths: of N pictures; None where a picture has no file.

    Returns:
        int64 ``[N, c]``, padded with -1; ``c`` is mostly 1, and 0 where no picture is in the index.
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
    real = cache(os.path.realpath)  # few folders hold many pictures
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
    """Search an index, with what improves neighbours by neighbours.

    In this order: the gallery is augmented, queries are expanded by it, it is reduced to
    prototypes, searched, and what was found is ranked anew.

    Args:
        queries: float32 ``[N, D]``, of length 1.
        k: neighbours.
        own: of ``own_rows``, rows that are no neighbours of the query; prototypes and what other
            rows become by augmentation, expansion and re-ranking hold them all the same.
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
    wanted = k
    if own is not None and not by_prototype:
        k += own.shape[1]
    found: Neighbours
    if reranked:
        candidates = max(CANDIDATES, k)
        found = rerank(queries, gallery, k, candidates=candidates, device=device)
    elif gallery is index.embedding:
        found = index.search(queries, k, device=device)
    else:
        found = search_exact(queries, gallery, k, device=device)
    if k > wanted:
        assert own is not None
        is_own = (found.position[:, :, None] == own[:, None, :]).any(axis=2)
        kept = np.argsort(is_own, axis=1, kind="stable")[:, :wanted]
        found = Neighbours(
            np.take_along_axis(found.similarity, kept, axis=1),
            np.take_along_axis(found.position, kept, axis=1),
        )
    return NeighbourMatches(found.similarity, target[found.position], picture[found.position])
