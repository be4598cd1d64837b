"""Exact nearest neighbours by cosine, in blocks; ``searchers.py`` does the same with FAISS.

The cosine is computed as the inner product, so all embeddings must be L2-normalised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError

SPARE = 8  # rows kept beyond the k-th during a search, to resolve near ties with the k-th
NEAR_TIE = 1e-5  # float32 sums of 5,000 terms can misorder similarities closer than this
TIE_BREAK = 2.0**-52  # weight of a position in a float64 key; below the gaps between float32 values
GATHERED = 2**22  # numbers copied at a time to resolve near ties, 32 MiB


@dataclass(frozen=True)
class Neighbours:
    """The k nearest gallery rows of N queries.

    Attributes:
        similarity: cosines float32 ``[N, k]``, in [-1, 1], best first.
        position: row of the gallery, int64 ``[N, k]``.
    """

    similarity: np.ndarray
    position: np.ndarray

    def best(self, k: int) -> "Neighbours":
        """The ``k`` best, in order; among equal similarities the lower position comes first."""
        order = np.lexsort((self.position, -self.similarity))[:, :k]
        return Neighbours(
            np.take_along_axis(self.similarity, order, axis=1),
            np.take_along_axis(self.position, order, axis=1),
        )


def search_exact(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    device: torch.device | None = None,
    query_block: int = 4096,
    gallery_block: int = 1024,
) -> Neighbours:
    """The ``k`` nearest gallery rows of each query.

    Only ``[query_block, gallery_block]`` similarities exist at a time, and only one block of each
    array is copied, so both arrays may be memory-mapped. Products are float32, neither TF32 nor
    bfloat16.

    If the similarities of two rows are too close for float32 (``NEAR_TIE``), float64 decides their
    order. So positions depend neither on the block sizes nor on the device, and among equal
    similarities the lower position comes first. Two things are not guaranteed: which rows are
    returned if more than ``SPARE`` others are as near as the k-th, and the last digit of a
    similarity (1e-6).

    Args:
        queries: float ``[N, D]``, L2-normalised.
        gallery: float ``[M, D]``, L2-normalised.
        k: neighbours of each query, 1 to M.
        device: device of the products; None and ``mps`` mean the CPU.
        query_block, gallery_block: rows per block; the gallery is read once per block of queries.
            With the defaults and 5,120 dimensions a search takes about 200 MiB.

    Raises:
        ValueError: ``k`` is out of range.
        UserError: an empty gallery, different dimensions, NaN or infinity.
    """
    return nearest_and_farthest(
        queries,
        gallery,
        k,
        device=device,
        query_block=query_block,
        gallery_block=gallery_block,
    )[0]


def nearest_and_farthest(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    device: torch.device | None = None,
    query_block: int = 4096,
    gallery_block: int = 1024,
) -> tuple[Neighbours, np.ndarray]:
    """As ``search_exact``; also returns each query's lowest similarity, float32 ``[N]``.

    Arguments and errors are those of ``search_exact``.
    """
    check_search(len(gallery), k)
    check_dimension(queries, gallery.shape[1], "queries")
    assert query_block > 0 and gallery_block > 0
    if device is None or device.type == "mps":  # MPS lacks float64, the type of the keys
        device = torch.device("cpu")
    kept = min(k + SPARE, len(gallery))
    similarity = np.empty((len(queries), k), np.float32)
    position = np.empty((len(queries), k), np.int64)
    farthest = np.empty(len(queries), np.float32)
    for rows in blocks(len(queries), query_block):
        block = copy_rows(queries, rows, "queries")
        keys, where, lowest = _scan(block, gallery, kept, device, gallery_block)
        refined = keys + where * TIE_BREAK
        near_ties = np.flatnonzero((refined[:, :-1] - refined[:, 1:] < NEAR_TIE).any(axis=1))
        for part in np.array_split(
            near_ties, len(near_ties) * kept * block.shape[1] // GATHERED + 1
        ):
            # einsum sums in a fixed order, so equal rows get equal results in any block.
            refined[part] = np.einsum(
                "nkd,nd->nk",
                gallery[where[part]].astype(np.float64),
                block[part].astype(np.float64),
            )
        best = Neighbours(refined.astype(np.float32), where).best(k)
        similarity[rows], position[rows] = best.similarity, best.position
        farthest[rows] = lowest
    return Neighbours(similarity, position), farthest


def _scan(
    block: np.ndarray, gallery: np.ndarray, kept: int, device: torch.device, gallery_block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best keys float64 ``[B, kept]``, their positions, and the lowest similarity ``[B]``.

    A key is the similarity minus a tiny penalty for the position, because ``topk`` alone would pick
    any of equal values.
    """
    with torch.inference_mode(), _full_precision(device):
        rows = torch.from_numpy(block).to(device)
        keys = torch.empty((len(rows), 0), dtype=torch.float64, device=device)
        where = torch.empty((len(rows), 0), dtype=torch.int64, device=device)
        lowest = torch.full((len(rows),), torch.inf, device=device)
        # Reused for every block: on the CPU, fresh memory costs more than filling it.
        scored = torch.empty(
            (len(rows), min(gallery_block, len(gallery))), dtype=torch.float64, device=device
        )
        for positions in blocks(len(gallery), gallery_block):
            candidates = torch.from_numpy(copy_rows(gallery, positions, "gallery")).to(device)
            products = rows @ candidates.T
            lowest = torch.minimum(lowest, products.amin(dim=1))
            penalty = torch.from_numpy(positions * TIE_BREAK).to(device)
            part = scored[:, : len(candidates)].copy_(products).sub_(penalty)
            best = part.topk(min(kept, len(candidates)), dim=1)
            keys = torch.cat([keys, best.values], dim=1)
            where = torch.cat([where, best.indices + int(positions[0])], dim=1)
            keys, columns = keys.topk(min(kept, keys.shape[1]), dim=1)
            where = where.gather(1, columns)
    return keys.cpu().numpy(), where.cpu().numpy(), lowest.cpu().numpy()


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switch off TF32 and bfloat16 inside the block; training may have switched them on."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


def blocks(count: int, size: int) -> Iterator[np.ndarray]:
    """Positions 0 to ``count - 1`` in order, as arrays int64 ``[B]`` with B at most ``size``."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def copy_rows(embeddings: np.ndarray, positions: np.ndarray, name: str) -> np.ndarray:
    """Copy rows, because torch and FAISS cannot use a read-only memory map.

    Args:
        embeddings: float ``[M, D]``.
        positions: rows to copy, int64 ``[B]``.
        name: name of the array, for the message.

    Returns:
        float32 ``[B, D]``.

    Raises:
        UserError: a row has NaN or infinity.
    """
    rows = np.asarray(embeddings[positions], dtype=np.float32, order="C")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise UserError(
            f"Row {positions[finite.argmin()]} of the {name} has a value that is NaN or infinite; "
            "allowed: finite embeddings."
        )
    return rows


def check_search(count: int, k: int) -> None:
    """Check that a gallery of ``count`` rows has ``k`` neighbours.

    Raises:
        UserError: the gallery is empty.
        ValueError: ``k`` is out of range.
    """
    if count == 0:
        raise UserError("The gallery is empty; it must have at least one embedding.")
    if not 1 <= k <= count:
        raise ValueError(f"k={k}; allowed: 1 to {count}, the size of the gallery.")


def check_dimension(embeddings: np.ndarray, dimension: int, name: str) -> None:
    """Check that embeddings float ``[N, D]`` have the gallery's dimension.

    Raises:
        UserError: D is not ``dimension``.
    """
    assert embeddings.ndim == 2
    if embeddings.shape[1] != dimension:
        raise UserError(
            f"The {name} have {embeddings.shape[1]} dimensions and the gallery has {dimension}; "
            "both must come from the same model."
        )
