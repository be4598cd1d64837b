"""One gallery, searched by one call: exactly, or over an index of FAISS.

FAISS is the extra ``retrieval`` and imported only where an index is asked for. All indexes take the
inner product, so embeddings must be L2-normalised. Building and searching are deterministic: FAISS
seeds its k-means, and from 1.15 builds the same HNSW graph with any number of threads.
"""

import importlib
import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.neighbours.exact import (
    Neighbours,
    blocks,
    check_dimension,
    check_search,
    copy_rows,
    search_exact,
)

BLOCK = 4096  # rows copied at a time into FAISS


CONNECTIONS = 32  # of a row in the HNSW graph; more: better recall, more memory


BUILD_BREADTH = 200  # rows looked at for a new row's connections


SEARCH_BREADTH = 128  # rows looked at for a query, and never fewer than 2 k


CODE_WORDS = 256  # for each part of a product quantiser, so that its code is one byte


PART_WIDTH = 4  # numbers of an embedding that share a byte: 512 numbers become 128 bytes


MOST_PARTS = 512  # bytes from which wider parts do: long embeddings repeat themselves


ROWS_PER_CENTRE = 39  # that k-means learns from; FAISS warns below it, and more take longer


PROBED = 32  # inverted lists looked at for a query


INDEXES = {"IndexFlatIP": "flat", "IndexHNSWFlat": "hnsw", "IndexIVFPQ": "ivfpq"}


KINDS = ("exact", *INDEXES.values())


class Searcher(Protocol):
    """A gallery that can be searched and added to."""

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""

    @property
    def count(self) -> int:
        """Rows of the gallery."""

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The ``k`` nearest rows of each query ``[N, D]``.

        Raises:
            UserError: a ``k`` that the gallery has not, other dimensions, NaN or infinity.
        """

    def add(self, embeddings: np.ndarray) -> None:
        """Append rows ``[A, D]``; their positions go on from ``count``.

        Raises:
            UserError: other dimensions, NaN or infinity.
        """


class ExactSearcher:
    """``search_exact`` over a gallery, which may be memory-mapped until something is added."""

    kind = "exact"

    def __init__(self, gallery: np.ndarray, device: torch.device | None = None) -> None:
        self.gallery = gallery
        self.device = device

    @property
    def count(self) -> int:
        return len(self.gallery)

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        return search_exact(queries, self.gallery, k, device=self.device)

    def add(self, embeddings: np.ndarray) -> None:
        check_dimension(embeddings, self.gallery.shape[1], "new rows")
        new = copy_rows(embeddings, np.arange(len(embeddings)), "new rows")
        self.gallery = np.concatenate([self.gallery, new])


class FaissSearcher:
    """A FAISS index on the CPU. Ties are in no particular order.

    ``flat`` is exact. ``hnsw`` and ``ivfpq`` miss some neighbours; the similarities of ``ivfpq``
    are approximate, since it keeps codes instead of the embeddings.
    """

    def __init__(self, index: Any, *, mapped: bool = False) -> None:
        self.index = index
        self.mapped = mapped
        self.kind = INDEXES[type(index).__name__]

    @property
    def count(self) -> int:
        return int(self.index.ntotal)

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        check_search(self.count, k)
        check_dimension(queries, self.index.d, "queries")
        similarity = np.empty((len(queries), k), np.float32)
        position = np.empty((len(queries), k), np.int64)
        for rows in blocks(len(queries), BLOCK):
            block = copy_rows(queries, rows, "queries")
            similarity[rows], position[rows] = self._search(block, k, everywhere=False)
        # The graph's breadth and the lists probed may hold fewer than k rows: -1 stands for them.
        short = np.flatnonzero((position < 0).any(axis=1))
        if len(short):
            block = copy_rows(queries, short, "queries")
            similarity[short], position[short] = self._search(block, k, everywhere=True)
        if (position < 0).any():
            raise ValueError(
                f"kind={self.kind} does not reach k={k} rows of the gallery from each query; use a "
                "smaller k, or kind=flat."
            )
        return Neighbours(similarity, position)

    def _search(
        self, block: np.ndarray, k: int, *, everywhere: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        faiss = _faiss()
        if self.kind == "hnsw":
            breadth = self.count if everywhere else max(SEARCH_BREADTH, 2 * k)
            parameters = faiss.SearchParametersHNSW(efSearch=breadth)
        elif self.kind == "ivfpq":
            lists = self.index.nlist
            parameters = faiss.SearchParametersIVF(nprobe=lists if everywhere else PROBED)
        else:
            parameters = None
        return self.index.search(block, k, params=parameters)

    def add(self, embeddings: np.ndarray) -> None:
        if self.mapped:  # FAISS would end the process
            raise UserError(
                f"This index (kind={self.kind}) was opened memory-mapped, which is read-only; open "
                "it with mapped=False to add to it."
            )
        check_dimension(embeddings, self.index.d, "new rows")
        for rows in blocks(len(embeddings), BLOCK):
            self.index.add(copy_rows(embeddings, rows, "new rows"))


def build_searcher(
    kind: str, gallery: np.ndarray, *, device: torch.device | None = None
) -> Searcher:
    """Make a gallery searchable.

    Args:
        kind: ``exact``, in blocks with nothing to build, on any device; ``flat``, the same over
            FAISS; ``hnsw``, a graph (Malkov & Yashunin 2018, arXiv 1603.09320), quickest to search
            and slow to build; ``ivfpq``, inverted lists of codes (Jegou et al. 2011), a byte
            for ``PART_WIDTH`` numbers or more, for galleries that do not fit into memory.
        gallery: ``[M, D]``, L2-normalised, may be memory-mapped.
        device: of ``exact``; FAISS runs on the CPU.

    Raises:
        UserError: an unknown kind, an empty gallery, NaN or infinity, FAISS missing, a device that
            the kind cannot use, fewer rows than ``ivfpq`` can learn its codes from.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind}; allowed: {', '.join(KINDS)}.")
    count, dimension = gallery.shape
    check_search(count, 1)
    if kind == "exact":
        return ExactSearcher(gallery, device)
    if device is not None and device.type != "cpu":
        raise ValueError(
            f"kind={kind} runs on the CPU, not on device={device}; use kind=exact there."
        )
    faiss = _faiss()
    if kind == "flat":
        index = faiss.IndexFlatIP(dimension)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, CONNECTIONS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_BREADTH
    else:
        index = _trained_ivfpq(faiss, gallery)
    searcher = FaissSearcher(index)
    searcher.add(gallery)
    return searcher


def _trained_ivfpq(faiss: Any, gallery: np.ndarray) -> Any:
    """An empty index whose lists and codes are learnt from rows spread over the gallery."""
    count, dimension = gallery.shape
    if count < CODE_WORDS:
        raise ValueError(
            f"kind=ivfpq needs a gallery of at least {CODE_WORDS} embeddings to learn its codes "
            f"from, and this one has {count}; use kind=flat."
        )
    lists = max(1, min(round(4 * math.sqrt(count)), count // ROWS_PER_CENTRE))
    least = min(math.ceil(dimension / PART_WIDTH), MOST_PARTS)
    parts = next(m for m in range(least, dimension + 1) if dimension % m == 0)
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(
        quantizer, dimension, lists, parts, int(math.log2(CODE_WORDS)), faiss.METRIC_INNER_PRODUCT
    )
    # Fewer rows a code word do no harm: codes are for the rows that they are learnt from.
    index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.max_points_per_centroid = ROWS_PER_CENTRE
    rows = min(count, ROWS_PER_CENTRE * max(lists, CODE_WORDS))
    spread = np.linspace(0, count - 1, rows).round().astype(np.int64)
    index.train(copy_rows(gallery, spread, "gallery"))
    return index


def save_searcher(searcher: Searcher, file: Path) -> None:
    """Write an index whole or not at all, for ``load_searcher``.

    Raises:
        UserError: ``exact``, which has none: keep its gallery with ``np.save``.
    """
    if not isinstance(searcher, FaissSearcher):
        raise ValueError(
            f"kind={searcher.kind} has no index to save; allowed: {', '.join(INDEXES.values())}."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    _faiss().write_index(searcher.index, str(partial))
    os.replace(partial, file)


def load_searcher(file: Path, *, mapped: bool = True) -> Searcher:
    """Open an index that ``save_searcher`` wrote.

    Args:
        mapped: leave embeddings and codes in the file, so that opening takes no time and processes
            share them; nothing can be added then. The graph and the lists' row numbers are read.

    Raises:
        UserError: the file is missing or no such index, or FAISS is missing.
    """
    faiss = _faiss()
    if not file.is_file():
        raise UserError(f"There is no index {file}.")
    try:
        # IO_FLAG_MMAP would leave an IVF's row numbers in the file too, but maps no other kind, and
        # what is saved from such an index points to the first file.
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError:
        raise UserError(f"{file} is no index that FAISS can read.") from None
    if type(index).__name__ not in INDEXES:
        raise UserError(
            f"{file} is an index of another kind ({type(index).__name__}); "
            f"allowed: {', '.join(INDEXES)}."
        )
    return FaissSearcher(index, mapped=mapped)


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise UserError(
            f"FAISS is not installed, and kind={', '.join(INDEXES.values())} need it: "
            'pip install "product-cls[retrieval]".'
        ) from None
