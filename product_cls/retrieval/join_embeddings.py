"""Features of several runs as one: joined embeddings of the same pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.retrieval.gallery import Features

SMALLEST = 1e-12  # an embedding shorter than this has no direction and stays as it is


def join_embeddings(
    parts: Sequence[np.ndarray], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Embeddings of the same pictures by R networks, side by side, as the winners joined them.

    Each is brought to length 1, multiplied by its weight, put beside the others, and the whole is
    brought to length 1 again. The cosine of two joined embeddings is therefore the mean of the
    networks' cosines, weighted by the *squares* of the weights.

    Args:
        parts: R arrays ``[N, D_r]``, of any length.
        weights: one a network, 0 or more; equal where None.

    Returns:
        float32 ``[N, sum of D_r]``.

    Raises:
        UserError: weights that do not fit.
    """
    assert parts and all(len(part) == len(parts[0]) for part in parts)
    chosen = check_weights(weights, len(parts)).astype(np.float32)
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    start = 0
    for part, weight in zip(parts, chosen, strict=True):
        columns = slice(start, start + part.shape[1])
        np.multiply(part, weight / _lengths(part), out=joined[:, columns], casting="same_kind")
        start = columns.stop
    # In place: ten networks' embeddings of 48,000 pictures take 1 GB.
    joined /= _lengths(joined)
    return joined


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    """float32 ``[N, 1]``."""
    squares = np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64)
    return np.maximum(np.sqrt(squares), SMALLEST).astype(np.float32)[:, None]


def align_features(runs: Sequence[tuple[str, Features]]) -> list[Features]:
    """The galleries of several runs in the order of the first run's ids.

    Args:
        runs: (run's name, its gallery), at least one.

    Raises:
        UserError: an empty gallery, or two runs whose galleries hold other pictures, classes or
            labels, named.
    """
    (first_name, first), *others = runs
    if not len(first.id):
        raise UserError(f"The gallery of run '{first_name}' is empty; it must hold a picture.")
    aligned = [first]
    for name, other in others:
        pair = f"Runs '{first_name}' and '{name}' cannot be joined"
        if not np.array_equal(first.classes, other.classes):
            raise UserError(
                f"{pair}: their classes differ ({len(first.classes)} and {len(other.classes)})."
            )
        if len(other.id) != len(first.id) or not np.isin(first.id, other.id).all():
            both = np.isin(first.id, other.id).sum()
            raise UserError(
                f"{pair}: their galleries hold other pictures ({len(first.id)} and "
                f"{len(other.id)} ids, {both} in both)."
            )
        if not np.array_equal(first.id, other.id):
            position = pd.Series(np.arange(len(other.id)), index=other.id)
            other = other.rows(position[first.id].to_numpy())
        unlike = np.flatnonzero(first.target != other.target)
        if len(unlike):
            raise UserError(
                f"{pair}: their galleries name {len(unlike)} pictures otherwise, the first is "
                f"'{first.id[unlike[0]]}'."
            )
        aligned.append(other)
    return aligned


def join_features(
    runs: Sequence[tuple[str, Features]], weights: Sequence[float] | None = None
) -> Features:
    """The galleries of several runs as one, with the first one's order of ids, and its paths.

    Args:
        runs: (run's name, its gallery), at least one.
        weights: see ``join_embeddings``.

    Raises:
        UserError: what ``align_features`` and ``join_embeddings`` refuse.
    """
    aligned = align_features(runs)
    return replace(
        aligned[0],
        embedding=join_embeddings([run.embedding for run in aligned], weights),
        embedding_no_tta=join_embeddings([run.embedding_no_tta for run in aligned], weights),
    )
