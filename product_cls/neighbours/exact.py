"""Nearest neighbours by cosine, exact and in blocks; ``searchers.py`` has the same over FAISS.

The cosine is taken as the inner product, so all embeddings must be L2-normalised already.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from product_cls.core.errors import UserError

SPARE = 8  # rows kept beyond the k-th while searching, so that a near tie there can be settled


NEAR_TIE = 1e-5  # similarities closer than this may be in the wrong order: float32, 5,000 terms


TIE_BREAK = 2.0**-52  # a position's share in a float64 key; too small to part different float32


GATHERED = 2**22  # numbers copied at a time to settle near ties, 32 MiB


@dataclass(frozen=True)
class Neighbours:
    """What a search found.

    Attributes:
        similarity: float32 ``[N, k]``, best first.
        position: int64 ``[N, k]``, rows of the gallery.
    """

    similarity: np.ndarray
    position: np.ndarray

    def best(self, k: int) -> "Neighbours":
        """The ``k`` best, in order; of equal ones the lower position comes first."""
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

    Only ``[query_block, gallery_block]`` similarities exist at a time, and only a block of either
    array is copied, so both may be memory-mapped. Products are float32, neither TF32 nor bfloat16.

    Where float32 cannot tell two rows apart (``NEAR_TIE``), the order is settled in float64. So
    positions depend neither on the block sizes nor on the device, and of equal similarities the
    lower position comes first. What is not guaranteed: which rows are returned where more than
    ``SPARE`` others are as near to the k-th; and the last digit of a similarity (1e-6).

    Args:
        queries: ``[N, D]``, L2-normalised.
        gallery: ``[M, D]``, L2-normalised.
        k: neighbours of each query, 1 to M.
        device: where to multiply; the CPU where None, and for ``mps``.
        query_block, gallery_block: rows; the gallery is read once for each block of queries.
            With the defaults and 5,120 dimensions a search takes about 200 MiB.

    Raises:
        UserError: an empty gallery, a ``k`` it has not, other dimensions, NaN or infinity.
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
    """As ``search_exact``, with each query's lowest similarity to the gallery, float32 ``[N]``."""
    check_search(len(gallery), k)
    check_dimension(queries, gallery.shape[1], "queries")
    assert query_block > 0 and gallery_block > 0
    if device is None or device.type == "mps":  # which has no float64, that keys are kept in
        device = torch.device("cpu")
    kept = min(k + SPARE, len(gallery))
    similarity = np.empty((len(queries), k), np.float32)
    position = np.empty((len(queries), k), np.int64)
    farthest = np.empty(len(queries), np.float32)
    for rows in blocks(len(queries), query_block):
        block = copy_rows(queries, rows, "queries")
        keys, where, lowest = _scan(block, gallery, kept, device, gallery_block)
        found = keys + where * TIE_BREAK
        near = np.flatnonzero((found[:, :-1] - found[:, 1:] < NEAR_TIE).any(axis=1))
        for part in np.array_split(near, len(near) * kept * block.shape[1] // GATHERED + 1):
            # A sum in a fixed order: the same for equal rows, whatever lies beside them.
            found[part] = np.einsum(
                "nkd,nd->nk",
                gallery[where[part]].astype(np.float64),
                block[part].astype(np.float64),
            )
        best = Neighbours(found.astype(np.float32), where).best(k)
        similarity[rows], position[rows] = best.similarity, best.position
        farthest[rows] = lowest
    return Neighbours(similarity, position), farthest


def _scan(
    block: np.ndarray, gallery: np.ndarray, kept: int, device: torch.device, gallery_block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best keys float64 ``[B, kept]``, their positions, and the lowest similarity ``[B]``.

    A key is the similarity less a trifle for the position: ``topk`` alone picks any of equals.
    """
    with torch.inference_mode(), _full_precision(device):
        rows = torch.from_numpy(block).to(device)
        keys = torch.empty((len(rows), 0), dtype=torch.float64, device=device)
        where = torch.empty((len(rows), 0), dtype=torch.int64, device=device)
        lowest = torch.full((len(rows),), torch.inf, device=device)
        # Kept from block to block: on the CPU fresh memory costs more than the sums put into it.
        scored = torch.empty(
            (len(rows), min(gallery_block, len(gallery))), dtype=torch.float64, device=device
        )
        for positions in blocks(len(gallery), gallery_block):
            others = torch.from_numpy(copy_rows(gallery, positions, "gallery")).to(device)
            products = rows @ others.T
            lowest = torch.minimum(lowest, products.amin(dim=1))
            trifle = torch.from_numpy(positions * TIE_BREAK).to(device)
            part = scored[:, : len(others)].copy_(products).sub_(trifle)
            best = part.topk(min(kept, len(others)), dim=1)
            keys = torch.cat([keys, best.values], dim=1)
            where = torch.cat([where, best.indices + int(positions[0])], dim=1)
            keys, columns = keys.topk(min(kept, keys.shape[1]), dim=1)
            where = where.gather(1, columns)
    return keys.cpu().numpy(), where.cpu().numpy(), lowest.cpu().numpy()


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No TF32 and no bfloat16, whatever training has switched on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def blocks(count: int, size: int) -> Iterator[np.ndarray]:
    """Positions 0 to ``count`` in order, at most ``size`` at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def copy_rows(embeddings: np.ndarray, positions: np.ndarray, name: str) -> np.ndarray:
    """Some rows as a float32 array of their own, which torch and FAISS need of a read-only map.

    Args:
        embeddings: ``[M, D]``.
        positions: of the rows, ``[B]``.
        name: of the array, for the message.

    Raises:
        UserError: NaN or infinity among them.
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
    """Refuse what no gallery of ``count`` rows can answer.

    Raises:
        UserError: there are none, or not ``k`` of them.
    """
    if count == 0:
        raise UserError("The gallery is empty; it must have at least one embedding.")
    if not 1 <= k <= count:
        raise ValueError(f"k={k}; allowed: 1 to {count}, the size of the gallery.")


def check_dimension(embeddings: np.ndarray, dimension: int, name: str) -> None:
    """Refuse what cannot be compared with a gallery of ``dimension`` numbers a row.

    Raises:
        UserError: another dimension.
    """
    assert embeddings.ndim == 2
    if embeddings.shape[1] != dimension:
        raise UserError(
            f"The {name} have {embeddings.shape[1]} dimensions and the gallery has {dimension}; "
            "both must come from the same model."
        )
