"""Better neighbours from neighbours: of the queries, of the gallery, and in another order.

Pure functions. Embeddings are ``[rows, D]``, L2-normalised and finite; the functions that search
refuse what ``search_exact`` refuses.
"""

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array

from product_cls.core.errors import UserError
from product_cls.neighbours.exact import (
    GATHERED,
    Neighbours,
    blocks,
    check_dimension,
    check_search,
    nearest_and_farthest,
    search_exact,
)

TINY = np.finfo(np.float32).tiny  # in place of a length or distance of 0, which is divided by


def augment_database(
    gallery: np.ndarray,
    *,
    neighbours: int = 10,
    alpha: float = 3.0,
    device: torch.device | None = None,
) -> np.ndarray:
    """Database-side augmentation: ``normalize(g + sum sim^alpha * g')`` over g's nearest rows g'.

    Arandjelovic & Zisserman 2012 ("Three things everyone should know to improve object retrieval"),
    Gordo et al. 2017 (arXiv 1610.07940); they weigh by rank, this by similarity, as
    ``expand_queries`` does.

    Args:
        gallery: ``[M, D]``.
        neighbours: other rows that join each row, 1 to M - 1.
        alpha: 0 or more; 0 weighs all alike, a greater one leaves less to the farther ones.

    Returns:
        float32 ``[M, D]``, L2-normalised, in memory.

    Raises:
        UserError: more neighbours than there are, or a negative ``alpha``.
    """
    count = len(gallery)
    check_search(count, 1)
    _check_expansion(neighbours, count - 1, alpha)
    found = search_exact(gallery, gallery, neighbours + 1, device=device)
    other = found.position != np.arange(count)[:, None]
    other[other.all(axis=1), -1] = False  # a row with so many copies that it does not find itself
    rest = [part[other].reshape(count, neighbours) for part in (found.similarity, found.position)]
    return _joined(gallery, gallery, Neighbours(*rest), alpha)


def expand_queries(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    neighbours: int = 10,
    alpha: float = 3.0,
    device: torch.device | None = None,
) -> np.ndarray:
    """Alpha query expansion: ``normalize(q + sum sim^alpha * g)`` over q's nearest gallery rows g.

    Radenovic et al. 2018, arXiv 1711.02512. Rows of negative similarity do not join.

    Args:
        queries: ``[N, D]``.
        gallery: ``[M, D]``.
        neighbours: gallery rows that join each query, 1 to M.
        alpha: 0 or more; 0 is average query expansion.

    Returns:
        float32 ``[N, D]``, L2-normalised, in memory.

    Raises:
        UserError: more neighbours than there are, or a negative ``alpha``.
    """
    check_search(len(gallery), 1)
    _check_expansion(neighbours, len(gallery), alpha)
    found = search_exact(queries, gallery, neighbours, device=device)
    return _joined(queries, gallery, found, alpha)


def rerank(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lam: float = 0.3,
    candidates: int = 100,
    device: torch.device | None = None,
) -> Neighbours:
    """K-reciprocal re-ranking (Zhong et al. 2017, arXiv 1701.08398), as its authors' code has it.

    Each row is described by the rows that it finds and that find it (``_encoded``); two rows are
    near when these agree (Jaccard distance). Queries take part like gallery rows, so an answer
    depends on which queries are asked together. Both lie in memory; matrices are sparse.

    Args:
        queries: ``[N, D]``.
        gallery: ``[M, D]``.
        k: neighbours of each query, 1 to ``candidates`` and to M.
        k1: rows that must find each other, 1 or more.
        k2: rows over which a description is averaged, 1 or more; 1 is the row alone.
        lam: share of the embeddings' own distance, 0 to 1.
        candidates: nearest gallery rows that are ranked anew, all of a smaller gallery.

    Returns:
        Neighbours whose similarity is ``1 - ((1 - lam) * Jaccard + lam * distance)``, in [0, 1]
        and best first; ``distance`` is the squared Euclidean one over the query's largest.

    Raises:
        UserError: a setting outside its range.
    """
    check_search(len(gallery), 1)
    check_dimension(queries, gallery.shape[1], "queries")
    candidates = min(candidates, len(gallery))
    if not 1 <= k <= candidates:
        raise ValueError(f"k={k}; allowed: 1 to {candidates}, the candidates that are ranked anew.")
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1={k1}, k2={k2}; allowed: 1 or more.")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}; allowed: 0 to 1.")
    first = search_exact(queries, gallery, candidates, device=device)
    rows = np.concatenate([queries, gallery]).astype(np.float32, copy=False)
    width = min(max(k1 + 1, k2), len(rows))
    near, farthest = nearest_and_farthest(rows, rows, width, device=device)
    largest = 2 - 2 * farthest
    encoded = _encoded(rows, near.position, largest, k1, k2)
    overlap = _overlap(encoded, first.position, len(queries))
    jaccard = 1 - overlap / (2 - overlap)
    distance = _distance(first.similarity, largest[: len(queries), None])
    similarity = (1 - ((1 - lam) * jaccard + lam * distance)).astype(np.float32)
    return Neighbours(similarity, first.position).best(k)


def prototypes(
    gallery: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """One embedding a class: the normalised mean of its pictures'.

    Args:
        gallery: ``[M, D]``.
        labels: int64 ``[M]``, below ``num_classes``; negative ones are left out.

    Returns:
        float32 ``[P, D]`` and int64 ``[P]``, the P classes that have pictures, ascending.

    Raises:
        UserError: no picture has a label.
    """
    assert len(labels) == len(gallery) and (labels < num_classes).all()
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise UserError("No picture of the gallery has a label; prototypes need one or more.")
    members = csr_array(
        (np.ones(len(known), np.float32), (labels[known], known)), (num_classes, len(gallery))
    )
    present = np.unique(labels[known]).astype(np.int64)
    return _normalised((members @ gallery)[present]), present


def _joined(rows: np.ndarray, gallery: np.ndarray, found: Neighbours, alpha: float) -> np.ndarray:
    similarity = found.similarity
    weights = np.where(similarity > 0, np.maximum(similarity, 0) ** np.float32(alpha), 0)
    return _normalised(rows + _sparse(found.position, len(gallery), weights) @ gallery)


def _normalised(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(length, TINY)).astype(np.float32, copy=False)


def _check_expansion(neighbours: int, most: int, alpha: float) -> None:
    if not 1 <= neighbours <= most:
        raise ValueError(
            f"neighbours={neighbours}; allowed: 1 or more, and the gallery has {most} rows to join."
        )
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha={alpha}; allowed: 0 or more.")


def _sparse(position: np.ndarray, columns: int, values: np.ndarray) -> csr_array:
    """``[N, columns]`` with ``values`` at ``position``, both ``[N, k]``."""
    rows, k = position.shape
    starts = np.arange(0, rows * k + 1, k)
    return csr_array((values.ravel(), position.ravel(), starts), (rows, columns))


def _distance(similarity: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance as a share of the row's largest, in [0, 1]."""
    return np.clip((2 - 2 * similarity) / np.maximum(largest, TINY), 0, 1)


def _reciprocal(position: np.ndarray, width: int) -> csr_array:
    """1 where two of n rows find each other among their ``width`` nearest, sparse ``[n, n]``.

    A row finds itself, even where more copies of it than ``width`` stand before it.
    """
    count = len(position)
    nearest = position[:, :width]
    found = _sparse(nearest, count, np.ones(nearest.shape, np.float32))
    return found.multiply(found.T).maximum(eye_array(count, dtype=np.float32)).tocsr()


def _encoded(
    rows: np.ndarray, position: np.ndarray, largest: np.ndarray, k1: int, k2: int
) -> csr_array:
    """Descriptions of n rows, sparse ``[n, n]``, each of sum 1.

    Section 3.2 and 3.3 of the paper: a row's reciprocal neighbours, with those of each neighbour's
    that it mostly shares, weighted by ``exp(-distance)``; then the mean over the ``k2`` nearest.

    Args:
        rows: ``[n, D]``.
        position: ``[n, k]``, nearest rows of each, itself among them.
        largest: ``[n]``, squared distance of each row's farthest.
    """
    reciprocal = _reciprocal(position, k1 + 1)
    half = _reciprocal(position, round(k1 / 2) + 1)
    # `half` is symmetric, so the product counts what a row and its neighbour's half share.
    shared = (reciprocal @ half).multiply(reciprocal).tocoo()
    joins = 3 * shared.data > 2 * half.sum(axis=1)[shared.col]
    joining = csr_array((shared.data[joins], (shared.row[joins], shared.col[joins])), shared.shape)
    described, by = (reciprocal + joining @ half).nonzero()
    similarity = np.empty(len(described), np.float32)
    for some in blocks(len(described), max(1, GATHERED // rows.shape[1])):
        similarity[some] = np.einsum("nd,nd->n", rows[described[some]], rows[by[some]])
    weights = np.exp(-_distance(similarity, largest[described]))
    weights /= np.bincount(described, weights)[described]
    alone = csr_array((weights.astype(np.float32), (described, by)), reciprocal.shape)
    nearest = position[:, :k2]
    mean = np.full(nearest.shape, 1 / nearest.shape[1], np.float32)
    return (_sparse(nearest, len(rows), mean) @ alone).tocsr()


def _overlap(encoded: csr_array, position: np.ndarray, count: int) -> np.ndarray:
    """``sum_x min(V_query(x), V_candidate(x))`` of each query's candidates, ``[count, k]``.

    Args:
        encoded: V, ``[count + M, count + M]``, queries first.
        position: ``[count, k]``, candidates in the gallery.
    """
    overlap = np.empty(position.shape, np.float32)
    own = np.zeros(encoded.shape[1], np.float32)
    for query, row in enumerate(position):
        part = slice(*encoded.indptr[query : query + 2])
        own[encoded.indices[part]] = encoded.data[part]
        others = encoded[count + row]
        least = np.minimum(others.data, own[others.indices])
        overlap[query] = np.add.reduceat(least, others.indptr[:-1])
        own[encoded.indices[part]] = 0
    return overlap
