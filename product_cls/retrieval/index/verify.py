"""Neighbours of an index verified by the points that pictures have in common, for ``verify=``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.inference.align import align
from product_cls.inference.predictor import Predictor
from product_cls.matching.compare import FeatureFolder, count_points, most_points
from product_cls.matching.fusion import DEFAULT, Fusion, fit_fusion
from product_cls.neighbours.exact import search_exact
from product_cls.neighbours.join import join_embeddings
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.sources import EmbeddedRun, embedded_run
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.retrieval.join_galleries import align_galleries
from product_cls.runs.folder import RunFolder

CANDIDATES = 20  # nearest pictures that a query is compared with, or as many as vote
COMPARED = 5  # best classes whose scores points may change
HELD_OUT = 200  # pictures that the weights are fitted on, at most


def features_folder(index: GalleryIndex) -> Path:
    """Where the local features of an index's pictures are kept: beside its folder."""
    assert index.folder is not None
    return index.folder.with_name(f"{index.folder.name}-local-features")


@dataclass(frozen=True)
class Verified:
    """Scores that points in common have changed.

    Attributes:
        scores: float32 ``[N, C]``; rows sum to 1.
        points: in common with each candidate, int64 ``[N, k]``; 0 where points could not have
            changed the answer, and pictures were not compared.
        compared: number of queries that were compared.
    """

    scores: np.ndarray
    points: np.ndarray
    compared: int


def verify(
    scores: np.ndarray,
    paths: Sequence[Path],
    features: FeatureFolder,
    pictures: np.ndarray,
    labels: np.ndarray,
    fusion: Fusion,
) -> Verified:
    """Join scores with the points that queries and their nearest pictures have in common.

    Args:
        scores: of the vote, float ``[N, C]``.
        paths: N picture files.
        features: of the index's pictures.
        pictures: int64 ``[N, k]``, the candidates as rows of the index.
        labels: int64 ``[N, k]``, their classes.
        fusion: weights of scores and points.
    """
    points = np.zeros(pictures.shape, np.int64)
    rows = np.flatnonzero(fusion.can_change(scores))
    points[rows] = count_points([paths[row] for row in rows.tolist()], features, pictures[rows])
    classes = best_classes(scores)
    joined = fusion.apply(scores, classes, most_points(points, labels, classes))
    return Verified(joined, points, len(rows))


def best_classes(scores: np.ndarray) -> np.ndarray:
    """The classes whose scores points may change, best first, int64 ``[N, K]``."""
    order: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :COMPARED]
    return order


def tune_fusion(
    index: GalleryIndex,
    predictors: Sequence[Predictor],
    features: FeatureFolder,
    vote: Vote,
    device: torch.device | None = None,
) -> tuple[Fusion, int]:
    """Weights of scores and points, fitted on the pictures that the index's runs held out.

    As for the rejection threshold, each picture is embedded only by runs that held it out.

    Args:
        index: with the runs' folders still in place; those that are not are left out.
        predictors: of the index.
        features: of the index's pictures.
        vote: of the search.
        device: where to search; None for the CPU.

    Returns:
        The weights, and the number of pictures that they were fitted on; ``DEFAULT`` and 0 if there
        are none.
    """
    folds: dict[frozenset[str], list[EmbeddedRun]] = {}
    for source, predictor in zip(index.sources, predictors, strict=True):
        folder = RunFolder(Path(source.checkpoint).parents[1])
        try:
            run = embedded_run(folder, predictor, tta=source.tta != ["identity"])
        except (UserError, OSError, KeyError):
            continue
        if run.val is not None:
            folds.setdefault(frozenset(run.val.id.tolist()), []).append(run)
    parts = [
        _held_out(runs, index, features, vote, HELD_OUT // len(folds), device)
        for runs in folds.values()
    ]
    if not parts:
        return DEFAULT, 0
    scores, classes, points, target = (np.concatenate(part) for part in zip(*parts, strict=True))
    return fit_fusion(scores, classes, points, target), len(target)


def _held_out(
    runs: Sequence[EmbeddedRun],
    index: GalleryIndex,
    features: FeatureFolder,
    vote: Vote,
    most: int,
    device: torch.device | None,
) -> tuple[np.ndarray, ...]:
    """Scores, best classes, points and targets of pictures that the same runs held out."""
    weights = [run.source.weight for run in runs]
    queries = align([(run.source.name, run.val) for run in runs if run.val is not None])
    galleries = align_galleries([(run.source.name, run.gallery) for run in runs])
    chosen = np.unique(np.linspace(0, len(queries[0].id) - 1, max(most, 1)).astype(int))
    others = [gallery.without(queries[0].id) for gallery in galleries]
    found = search_exact(
        join_embeddings(
            [part.embedding[chosen] for part in queries if part.embedding is not None], weights
        ),
        join_embeddings([gallery.embedding for gallery in others], weights),
        min(max(CANDIDATES, vote.k), len(others[0].id)),
        device=device,
    )
    labels = others[0].target[found.position]
    heads = [part.class_scores[chosen] for part in queries if part.class_scores is not None]
    head = np.average(heads, axis=0, weights=weights) if len(heads) == len(queries) else None
    scores = vote.scores(
        found.similarity[:, : vote.k], labels[:, : vote.k], len(queries[0].classes), head
    )
    row_of = {name: row for row, name in enumerate(index.id.tolist())}
    path_of = dict(zip(galleries[0].id.tolist(), galleries[0].path.tolist(), strict=True))
    rows = np.array([row_of.get(name, -1) for name in others[0].id.tolist()])
    paths = [Path(path_of.get(name, "")) for name in queries[0].id[chosen].tolist()]
    points = count_points(paths, features, rows[found.position])
    classes = best_classes(scores)
    return scores, classes, most_points(points, labels, classes), queries[0].target[chosen]
