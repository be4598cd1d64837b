"""Joins the embeddings of several networks."""

from collections.abc import Sequence

import numpy as np

from product_cls.core.vote_weights import check_weights

SMALLEST = 1e-12  # shorter embeddings have no direction: their length counts as this


def join_embeddings(
    parts: Sequence[np.ndarray], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Concatenate the embeddings of R networks for the same pictures, as the winning system did.

    Each embedding is L2-normalised and multiplied by its network's weight; the concatenation is
    L2-normalised again. So the cosine of two joined embeddings is the mean of the networks'
    cosines, weighted by the *squares* of the weights.

    Args:
        parts: R arrays float ``[N, D_r]``; rows may have any length.
        weights: one per network, 0 or more; None for equal weights.

    Returns:
        float32 ``[N, sum of D_r]``.

    Raises:
        UserError: weights of the wrong number or sign.
    """
    assert parts and all(len(part) == len(parts[0]) for part in parts)
    checked = check_weights(weights, len(parts)).astype(np.float32)
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    start = 0
    for part, weight in zip(parts, checked, strict=True):
        columns = slice(start, start + part.shape[1])
        np.multiply(part, weight / _lengths(part), out=joined[:, columns], casting="same_kind")
        start = columns.stop
    # In place: embeddings of 48,000 pictures by ten networks take 1 GB.
    joined /= _lengths(joined)
    return joined


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    """Euclidean lengths of the rows, float32 ``[N, 1]``."""
    squares = np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64)
    return np.maximum(np.sqrt(squares), SMALLEST).astype(np.float32)[:, None]
