"""One interface to search a gallery, exactly or with a FAISS index.

FAISS belongs to the extra ``retrieval`` and is imported only when a FAISS index is used. All
indexes use the inner product, so embeddings must be L2-normalised. Building and searching are
deterministic: FAISS seeds its k-means, and since 1.15 its HNSW graph does not depend on the number
of threads.
"""

import importlib
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.core.extras import missing_extra
from product_cls.core.files import whole_file
from product_cls.neighbours.exact import (
    Neighbours,
    blocks,
    check_dimension,
    check_search,
    copy_rows,
    search_exact,
)

BLOCK = 4096  # rows copied into FAISS at a time
CONNECTIONS = 32  # per row of the HNSW graph; more give better recall and take more memory
BUILD_BREADTH = 200  # HNSW efConstruction: candidates for connections of a new row
SEARCH_BREADTH = 128  # HNSW efSearch: candidates for a query, at least 2 k
CODE_WORDS = 256  # per part of the product quantiser, so that a part is coded in one byte
PART_WIDTH = 4  # numbers of an embedding per byte of its code: 512 numbers become 128 bytes
MOST_PARTS = 512  # bytes of a code; longer embeddings are redundant and get wider parts
ROWS_PER_CENTRE = 39  # k-means rows per centre; FAISS warns about fewer, and more take longer
PROBED = 32  # inverted lists searched per query

INDEXES = {"IndexFlatIP": "flat", "IndexHNSWFlat": "hnsw", "IndexIVFPQ": "ivfpq"}
KINDS = ("exact", *INDEXES.values())


class Searcher(Protocol):
    """A gallery that can be searched and extended."""

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""

    @property
    def count(self) -> int:
        """Number of rows of the gallery."""

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The ``k`` nearest rows of each of the queries, float ``[N, D]``, L2-normalised.

        Raises:
            ValueError: ``k`` is out of range.
            UserError: different dimensions, NaN or infinity.
        """

    def add(self, embeddings: np.ndarray) -> None:
        """Append rows float ``[A, D]``; their positions start at ``count``.

        Raises:
            UserError: different dimensions, NaN or infinity.
        """


class ExactSearcher:
    """``search_exact`` over a gallery, which may be memory-mapped until rows are added.

    Args:
        gallery: float ``[M, D]``, L2-normalised.
        device: device of the search; None for the CPU.
    """

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

    ``flat`` is exact. ``hnsw`` and ``ivfpq`` miss some neighbours. Similarities of ``ivfpq`` are
    approximate, because it stores codes instead of embeddings.

    Args:
        index: a FAISS index of a type in ``INDEXES``.
        mapped: whether the index is memory-mapped, and so read-only.
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
        # FAISS fills up with -1 if it has fewer than k candidates.
        incomplete = np.flatnonzero((position < 0).any(axis=1))
        if len(incomplete):
            block = copy_rows(queries, incomplete, "queries")
            similarity[incomplete], position[incomplete] = self._search(block, k, everywhere=True)
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
        if self.mapped:  # FAISS would kill the process
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
    """Build a searcher for a gallery.

    Args:
        kind: ``exact``, in blocks, on any device, with nothing to build; ``flat``, exact with
            FAISS; ``hnsw``, a graph (Malkov & Yashunin 2018, arXiv 1603.09320), fastest to search
            and slow to build; ``ivfpq``, inverted lists of codes (Jegou et al. 2011), one byte per
            ``PART_WIDTH`` numbers or more, for galleries that do not fit into memory.
        gallery: float ``[M, D]``, L2-normalised; may be memory-mapped.
        device: for ``exact``; FAISS runs on the CPU.

    Raises:
        ValueError: an unknown kind, a device that the kind cannot use, or fewer rows than ``ivfpq``
            needs.
        UserError: an empty gallery, NaN or infinity, or FAISS is not installed.
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
    """An empty index whose lists and codes are trained on evenly spaced rows of the gallery."""
    count, dimension = gallery.shape
    if count < CODE_WORDS:
        raise ValueError(
            f"kind=ivfpq needs at least {CODE_WORDS} embeddings to train its codes, and this "
            f"gallery has {count}; use kind=flat."
        )
    lists = max(1, min(round(4 * math.sqrt(count)), count // ROWS_PER_CENTRE))
    least = min(math.ceil(dimension / PART_WIDTH), MOST_PARTS)
    parts = next(m for m in range(least, dimension + 1) if dimension % m == 0)
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(
        quantizer, dimension, lists, parts, int(math.log2(CODE_WORDS)), faiss.METRIC_INNER_PRODUCT
    )
    # Few rows per code word do no harm, because codes only serve the rows of their training.
    index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.max_points_per_centroid = ROWS_PER_CENTRE
    rows = min(count, ROWS_PER_CENTRE * max(lists, CODE_WORDS))
    evenly_spaced = np.linspace(0, count - 1, rows).round().astype(np.int64)
    index.train(copy_rows(gallery, evenly_spaced, "gallery"))
    return index


def save_searcher(searcher: Searcher, file: Path) -> None:
    """Write a FAISS index atomically, for ``load_searcher``.

    Raises:
        ValueError: the searcher is ``exact``, which has no index; save its gallery with
            ``np.save``.
        OSError: the file cannot be written.
    """
    if not isinstance(searcher, FaissSearcher):
        raise ValueError(
            f"kind={searcher.kind} has no index to save; allowed: {', '.join(INDEXES.values())}."
        )
    with whole_file(file) as partial:
        try:
            _faiss().write_index(searcher.index, str(partial))
        except RuntimeError as error:  # FAISS's only kind of error, for a full disk, too
            raise OSError(f"FAISS cannot write {file}") from error


def load_searcher(file: Path, *, mapped: bool = True) -> Searcher:
    """Open an index that ``save_searcher`` wrote.

    Args:
        mapped: leave embeddings and codes in the file, so that opening takes no time and processes
            share them; the index is then read-only. The graph and row numbers are read at once.

    Raises:
        UserError: the file is missing or is not such an index, or FAISS is not installed.
    """
    faiss = _faiss()
    if not file.is_file():
        raise UserError(f"There is no index {file}.")
    try:
        # IO_FLAG_MMAP would also leave an IVF's row numbers in the file, but it maps no other kind,
        # and an index saved after it points to the first file.
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (RuntimeError, MemoryError):
        raise UserError(f"{file} is not a FAISS index, or is damaged.") from None
    if type(index).__name__ not in INDEXES:
        raise UserError(
            f"{file} is a FAISS index of another type ({type(index).__name__}); "
            f"allowed: {', '.join(INDEXES)}."
        )
    return FaissSearcher(index, mapped=mapped)


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError:
        kinds = ", ".join(INDEXES.values())
        raise missing_extra(f"An index of kind={kinds} needs FAISS", "retrieval") from None
