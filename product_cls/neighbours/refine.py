"""Improves a search by neighbours: augmentation, expansion, prototypes and re-ranking.

Pure functions. Embeddings are float ``[rows, D]``, L2-normalised and finite. Functions that search
raise what ``search_exact`` raises.
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

ALPHA = 3.0  # exponent of the similarities that weight added rows
TINY = np.finfo(np.float32).tiny  # lower bound of divisors, against division by 0


def augment_database(
    gallery: np.ndarray,
    *,
    neighbours: int = 10,
    alpha: float = ALPHA,
    device: torch.device | None = None,
) -> np.ndarray:
    """Database-side augmentation: ``normalize(g + sum sim^alpha * g')`` over g's nearest rows g'.

    Arandjelovic & Zisserman 2012 ("Three things everyone should know to improve object retrieval"),
    Gordo et al. 2017 (arXiv 1610.07940). They weight by rank; this weights by similarity, like
    ``expand_queries``.

    Args:
        gallery: float ``[M, D]``.
        neighbours: number of other rows that are added to each row, 1 to M - 1.
        alpha: 0 or more; 0 weights all rows equally; larger values give farther rows less weight.

    Returns:
        float32 ``[M, D]``, L2-normalised, in memory.

    Raises:
        ValueError: ``neighbours`` or ``alpha`` is out of range.
    """
    count = len(gallery)
    check_search(count, 1)
    check_expansion(neighbours, count - 1, alpha)
    nearest = search_exact(gallery, gallery, neighbours + 1, device=device)
    others = nearest.position != np.arange(count)[:, None]
    others[others.all(axis=1), -1] = False  # a row that has too many copies to find itself
    similarity, position = (
        part[others].reshape(count, neighbours) for part in (nearest.similarity, nearest.position)
    )
    return _expanded(gallery, gallery, Neighbours(similarity, position), alpha)


def expand_queries(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    neighbours: int = 10,
    alpha: float = ALPHA,
    device: torch.device | None = None,
) -> np.ndarray:
    """Alpha query expansion: ``normalize(q + sum sim^alpha * g)`` over q's nearest gallery rows g.

    Radenovic et al. 2018, arXiv 1711.02512. Rows with negative similarity are not added.

    Args:
        queries: float ``[N, D]``.
        gallery: float ``[M, D]``.
        neighbours: number of gallery rows that are added to each query, 1 to M.
        alpha: 0 or more; 0 is average query expansion.

    Returns:
        float32 ``[N, D]``, L2-normalised, in memory.

    Raises:
        ValueError: ``neighbours`` or ``alpha`` is out of range.
    """
    check_search(len(gallery), 1)
    check_expansion(neighbours, len(gallery), alpha)
    nearest = search_exact(queries, gallery, neighbours, device=device)
    return _expanded(queries, gallery, nearest, alpha)


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
    """K-reciprocal re-ranking (Zhong et al. 2017, arXiv 1701.08398), as in the authors' code.

    Each row is encoded by its reciprocal neighbours: rows that are among its nearest and have it
    among theirs (``_encoded``). Two rows are near if their encodings overlap (Jaccard distance).
    Queries count like gallery rows, so a result depends on the other queries. All rows are held in
    memory; matrices are sparse.

    Args:
        queries: float ``[N, D]``.
        gallery: float ``[M, D]``.
        k: neighbours of each query, 1 to ``candidates`` and to M.
        k1: reciprocal neighbours are searched among the ``k1`` nearest, 1 or more.
        k2: nearest rows over which an encoding is averaged, 1 or more; 1 is the row itself.
        lam: weight of the distance between embeddings, 0 to 1.
        candidates: number of nearest gallery rows to re-rank; all rows of a smaller gallery.
        device: device of the search; None for the CPU.

    Returns:
        Neighbours with similarity ``1 - ((1 - lam) * Jaccard + lam * distance)``, in [0, 1], best
        first. ``distance`` is the squared Euclidean distance divided by the query's largest.

    Raises:
        ValueError: a setting is out of range.
    """
    check_search(len(gallery), 1)
    check_dimension(queries, gallery.shape[1], "queries")
    candidates = min(candidates, len(gallery))
    if not 1 <= k <= candidates:
        raise ValueError(f"k={k}; allowed: 1 to {candidates}, the candidates that are re-ranked.")
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
    """One embedding per class: the L2-normalised mean of its pictures' embeddings.

    Args:
        gallery: float ``[M, D]``.
        labels: int64 ``[M]``, below ``num_classes``; rows with negative labels are left out.
        num_classes: number of classes.

    Returns:
        Prototypes float32 ``[P, D]``, and their classes int64 ``[P]``, ascending, for the P classes
        that have pictures.

    Raises:
        UserError: no picture has a label.
    """
    assert len(labels) == len(gallery) and (labels < num_classes).all()
    labelled = np.flatnonzero(labels >= 0)
    if not len(labelled):
        raise UserError("No picture of the gallery has a label; prototypes need at least one.")
    members = csr_array(
        (np.ones(len(labelled), np.float32), (labels[labelled], labelled)),
        (num_classes, len(gallery)),
    )
    present = np.unique(labels[labelled]).astype(np.int64)
    return _normalised((members @ gallery)[present]), present


def _expanded(
    rows: np.ndarray, gallery: np.ndarray, nearest: Neighbours, alpha: float
) -> np.ndarray:
    """``normalize(row + sum sim^alpha * g)`` over each row's nearest rows g, float32 ``[N, D]``."""
    similarity = nearest.similarity
    weights = np.where(similarity > 0, np.maximum(similarity, 0) ** np.float32(alpha), 0)
    return _normalised(rows + _sparse(nearest.position, len(gallery), weights) @ gallery)


def _normalised(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(length, TINY)).astype(np.float32, copy=False)


def check_expansion(neighbours: int, rows: int, alpha: float = ALPHA) -> None:
    """Check the settings of ``augment_database`` and ``expand_queries``.

    Args:
        neighbours: number of rows that are added to each row.
        rows: number of rows of the gallery that can be added: M - 1 where the gallery augments
            itself, M for queries.
        alpha: weight of near rows against far ones.

    Raises:
        ValueError: ``neighbours`` or ``alpha`` is out of range.
    """
    if not 1 <= neighbours <= rows:
        raise ValueError(
            f"neighbours={neighbours}; allowed: 1 to {rows}, the rows that the gallery has to add."
        )
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha={alpha}; allowed: 0 or more.")


def _sparse(position: np.ndarray, columns: int, values: np.ndarray) -> csr_array:
    """Sparse ``[N, columns]`` with ``values`` in the columns ``position``, both ``[N, k]``."""
    rows, k = position.shape
    starts = np.arange(0, rows * k + 1, k)
    return csr_array((values.ravel(), position.ravel(), starts), (rows, columns))


def _distance(similarity: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance as a share of the row's largest, in [0, 1]."""
    return np.clip((2 - 2 * similarity) / np.maximum(largest, TINY), 0, 1)


def _reciprocal(position: np.ndarray, width: int) -> csr_array:
    """1 where two of n rows are among each other's ``width`` nearest, sparse ``[n, n]``.

    A row is its own neighbour, even if more than ``width`` copies of it come first.
    """
    count = len(position)
    nearest = position[:, :width]
    among_nearest = _sparse(nearest, count, np.ones(nearest.shape, np.float32))
    return (
        among_nearest.multiply(among_nearest.T).maximum(eye_array(count, dtype=np.float32)).tocsr()
    )


def _encoded(
    rows: np.ndarray, position: np.ndarray, largest: np.ndarray, k1: int, k2: int
) -> csr_array:
    """Encodings of n rows, sparse ``[n, n]``; each row sums to 1.

    Sections 3.2 and 3.3 of the paper. A row is encoded by its reciprocal neighbours, and by those
    of each neighbour if it shares more than two thirds of them, weighted by ``exp(-distance)``.
    Encodings are then averaged over the ``k2`` nearest rows.

    Args:
        rows: float32 ``[n, D]``.
        position: int64 ``[n, k]``, nearest rows of each row, including itself.
        largest: float32 ``[n]``, squared distance of each row to its farthest row.
    """
    reciprocal = _reciprocal(position, k1 + 1)
    half = _reciprocal(position, round(k1 / 2) + 1)
    # `half` is symmetric, so the product counts the rows that a row shares with a neighbour's half.
    shared = (reciprocal @ half).multiply(reciprocal).tocoo()
    joins = 3 * shared.data > 2 * half.sum(axis=1)[shared.col]
    joining = csr_array((shared.data[joins], (shared.row[joins], shared.col[joins])), shared.shape)
    encoded_rows, members = (reciprocal + joining @ half).nonzero()
    similarity = np.empty(len(encoded_rows), np.float32)
    for block in blocks(len(encoded_rows), max(1, GATHERED // rows.shape[1])):
        similarity[block] = np.einsum("nd,nd->n", rows[encoded_rows[block]], rows[members[block]])
    weights = np.exp(-_distance(similarity, largest[encoded_rows]))
    weights /= np.bincount(encoded_rows, weights)[encoded_rows]
    encodings = csr_array((weights.astype(np.float32), (encoded_rows, members)), reciprocal.shape)
    nearest = position[:, :k2]
    mean = np.full(nearest.shape, 1 / nearest.shape[1], np.float32)
    return (_sparse(nearest, len(rows), mean) @ encodings).tocsr()


def _overlap(encoded: csr_array, position: np.ndarray, count: int) -> np.ndarray:
    """``sum_x min(V_query(x), V_candidate(x))`` for the candidates, float32 ``[count, k]``.

    Args:
        encoded: V, sparse ``[count + M, count + M]``, queries first.
        position: int64 ``[count, k]``, candidates as rows of the gallery.
        count: number of queries.
    """
    overlap = np.empty(position.shape, np.float32)
    query_encoding = np.zeros(encoded.shape[1], np.float32)
    for query, row in enumerate(position):
        part = slice(*encoded.indptr[query : query + 2])
        query_encoding[encoded.indices[part]] = encoded.data[part]
        candidates = encoded[count + row]
        minima = np.minimum(candidates.data, query_encoding[candidates.indices])
        overlap[query] = np.add.reduceat(minima, candidates.indptr[:-1])
        query_encoding[encoded.indices[part]] = 0
    return overlap
