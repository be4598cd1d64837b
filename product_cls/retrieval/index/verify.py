"""Neighbours of an index verified by the points that pictures have in common, for ``verify=``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from product_cls.core.errors import UserError
from product_cls.inference.predictor import Predictor
from product_cls.matching.compare import FeatureFolder, count_points, evenly, most_points
from product_cls.matching.fusion import DEFAULT, Fusion, best_classes, fit_fusion
from product_cls.neighbours.exact import search_exact
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.held_out import by_fold, join_held_out
from product_cls.retrieval.index.sources import EmbeddedRun, embedded_run
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.runs.folder import RunFolder

CANDIDATES = 20  # nearest pictures that a query is compared with, or as many as vote
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
    runs = []
    for source, predictor in zip(index.sources, predictors, strict=True):
        folder = RunFolder(Path(source.checkpoint).parents[1])
        try:
            runs.append(embedded_run(folder, predictor, tta=source.tta != ["identity"]))
        except (UserError, OSError, KeyError):
            continue
    folds = by_fold(runs)
    parts = [
        _held_out(members, index, features, vote, HELD_OUT // len(folds), device)
        for members in folds
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
    joined = join_held_out(runs)
    chosen = evenly(len(joined.id), max(most, 1))
    found = search_exact(
        joined.embedding[chosen],
        joined.others,
        min(max(CANDIDATES, vote.k), len(joined.others)),
        device=device,
    )
    labels = joined.others_target[found.position]
    head = None if joined.class_scores is None else joined.class_scores[chosen]
    scores = vote.scores(found.similarity[:, : vote.k], labels[:, : vote.k], joined.classes, head)
    row_of = {name: row for row, name in enumerate(index.id.tolist())}
    rows = np.array([row_of.get(name, -1) for name in joined.others_id.tolist()])
    gallery = runs[0].gallery
    path_of = dict(zip(gallery.id.tolist(), gallery.path.tolist(), strict=True))
    paths = [Path(path_of.get(name, "")) for name in joined.id[chosen].tolist()]
    points = count_points(paths, features, rows[found.position])
    classes = best_classes(scores)
    return scores, classes, most_points(points, labels, classes), joined.target[chosen]
