"""The ensemble's answers, verified by the points that pictures have in common, for ``verify=``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.samples import read_samples
from product_cls.core.errors import UserError, reason
from product_cls.core.names import nfc
from product_cls.ensemble.held_out import parts_of
from product_cls.ensemble.members import Member
from product_cls.inference.predictions import Predictions
from product_cls.matching.compare import FeatureFolder, count_points, evenly, most_points
from product_cls.matching.fusion import CLASSES, Fusion, best_classes, fit_fusion

PICTURES = 8  # of each class, spread evenly over those that are known
HELD_OUT = 1000  # pictures that the weights are fitted on, at most
FEATURES = "local-features"  # in the folder of the runs


@dataclass(frozen=True)
class Verified:
    """The blend after verification.

    Attributes:
        splits: predictions by split; held-out pictures are cross-fitted.
        sentence: what was compared, for the notes.
    """

    splits: dict[str, Predictions]
    sentence: str


@dataclass(frozen=True)
class _Compared:
    """Points that N pictures have in common with pictures of their K best classes.

    Attributes:
        classes, points: int64 ``[N, K]``.
    """

    classes: np.ndarray
    points: np.ndarray

    def of(self, rows: np.ndarray) -> "_Compared":
        return _Compared(self.classes[rows], self.points[rows])


@dataclass(frozen=True)
class _Known:
    """Labelled pictures to compare with, of each class as many as are needed.

    Attributes:
        id: text ``[M]``.
        target: int64 ``[M]``.
        features: of the M pictures.
        files: picture file by id, of all pictures.
    """

    id: np.ndarray
    target: np.ndarray
    features: FeatureFolder
    files: dict[str, Path]


def verify_blend(
    splits: dict[str, Predictions], members: Sequence[Member], folder: Path
) -> Verified:
    """Join the blend's scores with the points in common; test labels are not read.

    Each picture is compared with known pictures of its best classes. The weights of scores and
    points are fitted on held-out pictures.

    Args:
        splits: the blend's predictions.
        members: the finished runs; the first one's config names the pictures.
        folder: keeps the local features.

    Raises:
        UserError: several labels a picture, no held-out pictures, or pictures that are no longer
            where the run found them.
    """
    if "val" not in splits:
        raise UserError("verify=sift is fitted on held-out pictures, and these runs have none.")
    if splits["val"].target.ndim > 1:
        raise UserError("verify=sift needs one label a picture, but these runs predict several.")
    known = _known(splits, members, folder / FEATURES)
    val = splits["val"].in_memory()
    chosen = evenly(len(val.id), HELD_OUT)
    compared = _compare(val, chosen, known)
    fusion = _fit(val, compared, chosen)
    folds = [run.splits["val"] for run in members if "val" in run.splits]
    part, parts = parts_of(folds, val.id)
    result = {"val": _cross_fitted(val, compared, chosen, part)}
    count = len(chosen)
    if "test" in splits:
        test = splits["test"].in_memory()
        rows = np.flatnonzero(
            fusion.can_change(test.scores) | fusion.can_change(test.scores_no_tta)
        )
        count += len(rows)
        result["test"] = _joined(test, _compare(test, rows, known), fusion)
    return Verified(
        result,
        f"verify=sift compared {count} pictures with up to {PICTURES} pictures of each of their "
        f"{CLASSES} best classes. The weights, {fusion.scores_weight:.2f} of the scores and "
        f"{fusion.points_weight:.2f} of the points, were fitted on {len(chosen)} held-out "
        f"pictures; val is cross-fitted over {parts}.",
    )


def _known(splits: dict[str, Predictions], members: Sequence[Member], folder: Path) -> _Known:
    """The labelled pictures outside the test, some of each class.

    Raises:
        UserError: no run kept its labels, or the data are no longer there.
    """
    truth = next((run.truth for run in members if run.truth is not None), None)
    if truth is None or (first := members[0].folder) is None:
        raise UserError(
            "verify=sift needs the labels of the training, which runs of earlier versions did not "
            "keep."
        )
    try:
        samples = read_samples(first)
    except (OSError, ValueError) as error:
        raise UserError(
            f"verify=sift needs the pictures of {members[0].name}, and they are not there: "
            f"{reason(error)}."
        ) from None
    names = [nfc(str(name)) for name in samples["id"]]
    files = {name: Path(path) for name, path in zip(names, samples["path"], strict=True)}
    test = set(splits["test"].id.tolist()) if "test" in splits else set()
    labels = pd.Series(truth.target, index=[nfc(name) for name in truth.id.tolist()])
    labels = labels[[name in files and name not in test for name in labels.index]]
    spread = []
    for label in range(len(splits["val"].classes)):
        rows = np.flatnonzero(labels.to_numpy() == label)
        # One more than are compared, because a held-out picture is not compared with itself.
        spread.append(rows[evenly(len(rows), PICTURES + 1)])
    kept = labels.iloc[np.concatenate(spread)]
    features = FeatureFolder([files[name] for name in kept.index], folder)
    return _Known(kept.index.to_numpy(), kept.to_numpy(), features, files)


def _compare(predictions: Predictions, rows: np.ndarray, known: _Known) -> _Compared:
    """Compare some rows of the predictions, by position; the others have no points."""
    classes = best_classes(predictions.scores)
    of_class = [np.flatnonzero(known.target == k) for k in range(len(predictions.classes))]
    candidates = np.full((len(rows), classes.shape[1] * PICTURES), -1)
    for place, row in enumerate(rows.tolist()):
        members = (of_class[label] for label in classes[row].tolist())
        others = [part[known.id[part] != predictions.id[row]][:PICTURES] for part in members]
        found = np.concatenate(others)
        candidates[place, : len(found)] = found
    paths = [known.files[str(predictions.id[row])] for row in rows.tolist()]
    counts = count_points(paths, known.features, candidates)
    labels = np.where(candidates >= 0, known.target[candidates], -1)
    points = np.zeros(classes.shape, np.int64)
    points[rows] = most_points(counts, labels, classes[rows])
    return _Compared(classes, points)


def _fit(predictions: Predictions, compared: _Compared, rows: np.ndarray) -> Fusion:
    some = compared.of(rows)
    scores, target = predictions.scores[rows], predictions.target[rows]
    return fit_fusion(scores, some.classes, some.points, target)


def _joined(predictions: Predictions, compared: _Compared, fusion: Fusion) -> Predictions:
    return replace(
        predictions,
        scores=fusion.apply(predictions.scores, compared.classes, compared.points),
        scores_no_tta=fusion.apply(predictions.scores_no_tta, compared.classes, compared.points),
    )


def _cross_fitted(
    val: Predictions, compared: _Compared, chosen: np.ndarray, part: np.ndarray
) -> Predictions:
    """Held-out pictures, each with weights that were fitted on the other parts."""
    scores, plain = np.empty_like(val.scores), np.empty_like(val.scores_no_tta)
    for number in range(part.max() + 1):
        inside = np.flatnonzero(part == number)
        fusion = _fit(val, compared, chosen[part[chosen] != number])
        joined = _joined(val.rows(inside), compared.of(inside), fusion)
        scores[inside], plain[inside] = joined.scores, joined.scores_no_tta
    return replace(val, scores=scores, scores_no_tta=plain)
