"""The results that trackers show: metrics, confused products, misclassified pictures."""

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
from product_cls.data.fold_names import view_name
from product_cls.data.pictures import load_picture
from product_cls.inference.predictions import Predictions
from product_cls.neighbours.exact import search_exact
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder
from product_cls.tasks.multi_label import UNKNOWN

MOST_WRONG = 100  # misclassified pictures shown
TOP = 5  # answers shown for each
NEIGHBOURS = 3  # gallery pictures shown for each, if there is a gallery
SIDE = 224  # longer side of a picture shown, in pixels


@dataclass(frozen=True)
class Neighbour:
    """A gallery picture near a test picture; ``similarity`` is their cosine, -1 to 1."""

    path: Path
    label: str
    similarity: float


@dataclass(frozen=True)
class WrongPicture:
    """A misclassified test picture.

    Attributes:
        id: as in the sample table.
        path: picture file; None if the sample table lacks the picture.
        view: "" if unknown.
        target, decided: names of products.
        answers: lines of text, the best classes with their scores.
        neighbours: nearest gallery pictures, nearest first; empty without a gallery.
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
    """The results of a run or an ensemble, as trackers show them.

    Attributes:
        results: numbers by name: ``result/test/accuracy``, ``result/test/view_60/accuracy``, ...
        by_view: metrics of the test split: column ``view`` and one column per metric; empty
            without views.
        pairs: products confused most often in the test split, worst first.
        wrong: misclassified test pictures, highest score first, ``MOST_WRONG`` at most.
        wrong_count: number of misclassified test pictures.
        paths: paths of all pictures in the sample table, by id.
    """

    results: Mapping[str, float]
    by_view: pd.DataFrame
    pairs: Sequence[Confusion]
    wrong: Sequence[WrongPicture]
    wrong_count: int
    paths: Mapping[str, str]


def find(folder: RunFolder, samples: pd.DataFrame) -> Findings:
    """The findings of a finished run.

    Args:
        folder: the run's folder, with metrics and predictions.
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
    """The findings from metrics and a predictions file.

    Args:
        record: contents of ``metrics.json``.
        file: predictions of the test split; may be missing.
        samples: the sample table, columns ``id`` and ``path``.
        gallery: where to find the neighbours of misclassified pictures.
    """
    paths = dict(zip(samples["id"], samples["path"].astype(str), strict=True))
    views = record.get("test", {}).get("by_view", {})
    by_view = pd.DataFrame([{"view": view, **values} for view, values in views.items()])
    results = flat_results(record)
    if not file.is_file():
        return Findings(results, by_view, [], [], 0, paths)
    predictions = Predictions.load(file)
    rows, targets, decided, pairs = _wrong(predictions, file)
    # Confident mistakes first: they tell more than the many mistakes near 50 %.
    order = np.argsort(-predictions.scores[rows].max(axis=1), kind="stable")[:MOST_WRONG]
    shown = predictions.rows(rows[order])
    _, answers = shown.make_task().describe(shown.scores, TOP)
    neighbours = _neighbours(shown, gallery)
    wrong = [
        WrongPicture(
            id=str(name),
            path=Path(paths[name]) if name in paths else None,
            view="" if shown.view is None else view_name(shown.view[k]),
            target=str(targets[order[k]]),
            decided=str(decided[order[k]]),
            answers=answers[k],
            neighbours=neighbours[k],
        )
        for k, name in enumerate(shown.id)
    ]
    return Findings(results, by_view, pairs, wrong, len(rows), paths)


def _wrong(
    predictions: Predictions, file: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Confusion]]:
    """Find the M misclassified pictures.

    A picture with several labels is misclassified if one of them is wrong.

    Returns:
        Rows int64 ``[M]``, names of targets and of decisions, text ``[M]``, and the confused
        pairs, which multi-label tasks do not have.
    """
    task = predictions.make_task()
    if task.multi_label:
        decided = task.decide(predictions.scores)
        target = task.decide(predictions.target.astype(np.float64))
        labelled = (predictions.target != UNKNOWN).all(axis=1)
        rows = np.flatnonzero(labelled & (decided != target))
        return rows, target[rows], decided[rows], []
    try:
        pictures, outcome = read_outcome(file, tta=True)
    except UserError:  # no label is known
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty, []
    position = pd.Series(np.arange(len(predictions.id)), index=predictions.id)
    missed = outcome.correct == 0
    rows = position[pictures.id[missed]].to_numpy()
    pairs = confused_pairs(pictures, [outcome])
    return rows, pictures.name[missed], outcome.decided[missed], pairs


def _neighbours(shown: Predictions, gallery: Gallery | None) -> list[list[Neighbour]]:
    """The ``NEIGHBOURS`` nearest gallery pictures of each picture, nearest first."""
    if gallery is None or shown.embedding is None or not len(shown.id):
        return [[] for _ in shown.id]
    count = min(NEIGHBOURS, len(gallery.id))
    nearest = search_exact(shown.embedding, gallery.embedding, count)
    return [
        [
            Neighbour(
                Path(str(gallery.path[row])),
                str(gallery.classes[gallery.target[row]]),
                float(similarity),
            )
            for row, similarity in zip(*pair, strict=True)
        ]
        for pair in zip(nearest.position, nearest.similarity, strict=True)
    ]


def flat_results(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of ``metrics.json`` by flat name, such as ``result/test/accuracy``."""
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
    """A picture reduced to at most ``SIDE`` pixels per side, RGB, uint8 ``[h, w, 3]``; None if it
    cannot be read."""
    if path is None:
        return None
    try:
        picture = Image.fromarray(load_picture(Path(path)))
    except OSError:
        return None
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def pairs_table(pairs: Sequence[Confusion]) -> pd.DataFrame:
    """Confused products for readers, one row per pair; shares in per cent."""
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
