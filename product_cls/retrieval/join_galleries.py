"""Bring the galleries of several runs into the same order and join them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import nfc
from product_cls.neighbours.join import join_embeddings
from product_cls.retrieval.gallery import Gallery


def align_galleries(runs: Sequence[tuple[str, Gallery]]) -> list[Gallery]:
    """Reorder the galleries of several runs to the order of the first run.

    Ids and classes are compared in one Unicode form.

    Args:
        runs: (name of the run, its gallery), one or more.

    Raises:
        UserError: an empty gallery, or two runs whose galleries have different pictures, classes or
            labels.
    """
    (first_name, first), *others = runs
    if not len(first.id):
        raise UserError(
            f"The gallery of run '{first_name}' is empty; it needs at least one picture."
        )
    aligned, first_ids, first_classes = [first], _nfc(first.id), _nfc(first.classes)
    for name, other in others:
        pair = f"Runs '{first_name}' and '{name}' cannot be joined"
        ids = _nfc(other.id)
        if not np.array_equal(first_classes, _nfc(other.classes)):
            raise UserError(
                f"{pair}: their classes differ ({len(first.classes)} and {len(other.classes)})."
            )
        if len(ids) != len(first_ids) or not np.isin(first_ids, ids).all():
            both = np.isin(first_ids, ids).sum()
            raise UserError(
                f"{pair}: their galleries hold different pictures ({len(first.id)} and "
                f"{len(other.id)} ids, {both} in both)."
            )
        if not np.array_equal(first_ids, ids):
            position = pd.Series(np.arange(len(ids)), index=ids)
            other = other.rows(position[first_ids].to_numpy())
        differing = np.flatnonzero(first.target != other.target)
        if len(differing):
            raise UserError(
                f"{pair}: their galleries label {len(differing)} pictures differently, the first "
                f"is '{first.id[differing[0]]}'."
            )
        aligned.append(other)
    return aligned


def _nfc(names: np.ndarray) -> np.ndarray:
    return np.array([nfc(name) for name in names.tolist()], np.str_)


def join_galleries(
    runs: Sequence[tuple[str, Gallery]], weights: Sequence[float] | None = None
) -> Gallery:
    """Join the galleries of several runs into one, with the first run's order and paths.

    Args:
        runs: (name of the run, its gallery), one or more.
        weights: see ``join_embeddings``.

    Raises:
        UserError: as in ``align_galleries`` and ``join_embeddings``.
    """
    aligned = align_galleries(runs)
    return replace(
        aligned[0],
        embedding=join_embeddings([run.embedding for run in aligned], weights),
        embedding_no_tta=join_embeddings([run.embedding_no_tta for run in aligned], weights),
    )
