"""What a run's folder says that is worth showing: results, confused products, wrong pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from product_cls.analysis.confusions import Confusion, confused_pairs
from product_cls.analysis.outcomes import read_outcome
from product_cls.core.errors import UserError
from product_cls.data.pictures import load_picture
from product_cls.inference.predictions import Predictions, view_name
from product_cls.neighbours.exact import search_exact
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder
from product_cls.tasks.multi_label import UNKNOWN, MultiLabel

MOST_WRONG = 100  # pictures shown
TOP = 5  # answers of each
NEIGHBOURS = 3  # of each, where there is a gallery
SIDE = 224  # pixels of the longer side of a picture shown


@dataclass(frozen=True)
class Neighbour:
    """A picture of the gallery near a test picture."""

    path: Path
    label: str
    similarity: float


@dataclass(frozen=True)
class WrongPicture:
    """A test picture whose label is known and was missed.

    Attributes:
        path: of the file; None where the samples do not have the picture.
        view: "" where unknown.
        answers: the best answers with their scores, a line each.
        neighbours: nearest pictures of the gallery, nearest first; none in runs without.
    """

    id: str
    path: Path | None
    view: str
    target: str
    decided: str
    answers: Sequence[str]
    neighbours: Sequence[Neighbour] = ()


@dataclass(frozen=True)
class Findings:
    """What trackers show of a run or of an ensemble.

    Attributes:
        results: numbers by name: ``result/test/accuracy``, ``result/test/view_60/accuracy``, ...
        by_view: of the test part: ``view`` and a column a measure; empty without views.
        pairs: of products, those most often confused in the test part, worst first.
        wrong: test pictures named wrongly, most certain ones first, ``MOST_WRONG`` at most.
        wrong_count: how many there are.
        paths: of all sample pictures, by id.
    """

    results: Mapping[str, float]
    by_view: pd.DataFrame
    pairs: Sequence[Confusion]
    wrong: Sequence[WrongPicture]
    wrong_count: int
    paths: Mapping[str, str]


def find(folder: RunFolder, samples: pd.DataFrame) -> Findings:
    """What there is to show of a finished run.

    Args:
        folder: with metrics and predictions.
        samples: the sample table, columns ``id`` and ``path``.
    """
    gallery = folder.predictions_file("gallery")
    return find_in(
        folder.metrics(),
        folder.predictions_file("test"),
        samples,
        Gallery.load(gallery) if gallery.is_file() else None,
    )


def find_in(
    record: Mapping[str, Any], file: Path, samples: pd.DataFrame, gallery: Gallery | None = None
) -> Findings:
    """What there is to show of metrics and a predictions file, which may be missing.

    Args:
        record: ``{"test": summarise(...), ...}`` and other numbers.
        file: predictions of the test part.
    """
    paths = dict(zip(samples["id"], samples["path"].astype(str), strict=True))
    views = record.get("test", {}).get("by_view", {})
    by_view = pd.DataFrame([{"view": view, **values} for view, values in views.items()])
    results = flat_results(record)
    if not file.is_file():
        return Findings(results, by_view, [], [], 0, paths)
    predictions = Predictions.load(file)
    rows, targets, decided, pairs = _wrong(predictions, file)
    # A mistake made with certainty says more than one of many near 50 %.
    order = np.argsort(-predictions.scores[rows].max(axis=1), kind="stable")[:MOST_WRONG]
    shown = predictions.rows(rows[order])
    _, answers = shown.make_task().describe(shown.scores, TOP)
    near = _neighbours(shown, gallery)
    wrong = [
        WrongPicture(
            id=str(name),
            path=Path(paths[name]) if name in paths else None,
            view="" if shown.view is None else view_name(shown.view[k]),
            target=str(targets[order[k]]),
            decided=str(decided[order[k]]),
            answers=answers[k],
            neighbours=near[k],
        )
        for k, name in enumerate(shown.id)
    ]
    return Findings(results, by_view, pairs, wrong, len(rows), paths)


def _wrong(
    predictions: Predictions, file: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Confusion]]:
    """Rows of pictures named wrongly, their targets and decisions by name, and confused pairs.

    A picture of several labels is wrong where one of them is; pairs are of single labels.
    """
    task = predictions.make_task()
    if isinstance(task, MultiLabel):
        decided = task.decide(predictions.scores)
        target = task.decide(predictions.target.astype(np.float64))
        known = (predictions.target != UNKNOWN).all(axis=1)
        rows = np.flatnonzero(known & (decided != target))
        return rows, target[rows], decided[rows], []
    try:
        pictures, outcome = read_outcome(file, tta=True)
    except UserError:  # no label is known
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing, []
    position = pd.Series(np.arange(len(predictions.id)), index=predictions.id)
    missed = outcome.correct == 0
    rows = position[pictures.id[missed]].to_numpy()
    pairs = confused_pairs(pictures, [outcome])
    return rows, pictures.name[missed], outcome.decided[missed], pairs


def _neighbours(shown: Predictions, gallery: Gallery | None) -> list[list[Neighbour]]:
    if gallery is None or shown.embedding is None or not len(shown.id):
        return [[] for _ in shown.id]
    count = min(NEIGHBOURS, len(gallery.id))
    found = search_exact(shown.embedding, gallery.embedding, count)
    return [
        [
            Neighbour(
                Path(str(gallery.path[row])),
                str(gallery.classes[gallery.target[row]]),
                float(similarity),
            )
            for row, similarity in zip(*pair, strict=True)
        ]
        for pair in zip(found.position, found.similarity, strict=True)
    ]


def flat_results(record: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of ``metrics.json`` by one name each."""
    result: dict[str, float] = {}
    for split in ("val", "test"):
        part = record.get(split, {})
        views = part.get("by_view", {})
        for prefix, values in [("", part), *((f"view_{view}/", of) for view, of in views.items())]:
            result |= {
                f"result/{split}/{prefix}{name}": value
                for name, value in values.items()
                if isinstance(value, float)
            }
    for name in ("best_epoch", "epochs", "steps", "parameters"):
        if name in record:
            result[f"result/{name}"] = record[name]
    for name, value in record.get("seconds", {}).items():
        result[f"result/seconds_{name}"] = value
    return result


def thumbnail(path: Path | str | None) -> np.ndarray | None:
    """A picture for people, uint8 ``[h, w, 3]``; None where it cannot be read any more."""
    if path is None:
        return None
    try:
        picture = Image.fromarray(load_picture(Path(path)))
    except OSError:
        return None
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def pairs_table(pairs: Sequence[Confusion]) -> pd.DataFrame:
    """Confused products for people, shares in per cent."""
    return pd.DataFrame(
        [
            {
                "shown": pair.target,
                "taken for": pair.decided,
                "pictures": pair.count,
                "% of its pictures": round(100 * pair.share, 2),
                "for example": pair.picture,
                "view": pair.view,
            }
            for pair in pairs
        ]
    )
