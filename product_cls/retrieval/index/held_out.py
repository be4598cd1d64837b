"""Held-out pictures of an index's runs, joined as in the index.

Most networks of a joined index were trained on any given training picture, and so embed it nearer
to its product than a new picture. Therefore each held-out picture is embedded only by the runs that
held it out, and searched in their gallery without their held-out pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from product_cls.inference.align import align
from product_cls.neighbours.join import join_embeddings
from product_cls.retrieval.index.sources import EmbeddedRun
from product_cls.retrieval.join_galleries import align_galleries


@dataclass(frozen=True)
class HeldOut:
    """Pictures that the same runs held out, and the other pictures of these runs' galleries.

    Attributes:
        id, target: of the N held-out pictures, text and int64 ``[N]``.
        embedding: of these, float32 ``[N, D]``, L2-normalised.
        class_scores: the heads' mean scores, float ``[N, C]``; None if a head's are missing.
        others_id, others_target: of the M others, text and int64 ``[M]``.
        others: embeddings of these, float32 ``[M, D]``, L2-normalised.
        classes: C.
    """

    id: np.ndarray
    target: np.ndarray
    embedding: np.ndarray
    class_scores: np.ndarray | None
    others_id: np.ndarray
    others_target: np.ndarray
    others: np.ndarray
    classes: int


def by_fold(runs: Sequence[EmbeddedRun]) -> list[list[EmbeddedRun]]:
    """The runs that held out pictures, grouped by these pictures."""
    folds: dict[frozenset[str], list[EmbeddedRun]] = {}
    for run in runs:
        if run.val is not None:
            folds.setdefault(frozenset(run.val.id.tolist()), []).append(run)
    return list(folds.values())


def join_held_out(members: Sequence[EmbeddedRun]) -> HeldOut:
    """Join what runs of one fold held out.

    Args:
        members: one group of ``by_fold``.

    Raises:
        UserError: as in ``align`` and ``align_galleries``.
    """
    weights = [run.source.weight for run in members]
    queries = align([(run.source.name, run.val) for run in members if run.val is not None])
    galleries = align_galleries([(run.source.name, run.gallery) for run in members])
    others = [gallery.without(queries[0].id) for gallery in galleries]
    heads = [part.class_scores for part in queries if part.class_scores is not None]
    complete = len(heads) == len(queries)
    return HeldOut(
        id=queries[0].id,
        target=queries[0].target,
        embedding=join_embeddings(
            [part.embedding for part in queries if part.embedding is not None], weights
        ),
        class_scores=np.average(heads, axis=0, weights=weights) if complete else None,
        others_id=others[0].id,
        others_target=others[0].target,
        others=join_embeddings([gallery.embedding for gallery in others], weights),
        classes=len(queries[0].classes),
    )
