"""Pairs of products that the runs of a row confuse, with pictures of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.confusions import WORST, Confusion, confused_pairs
from product_cls.analysis.samples import read_samples
from product_cls.core.errors import reason
from product_cls.data.pictures import place_in_shard
from product_cls.report.experiment import Experiment
from product_cls.report.sweep_plan import ExperimentRun


def worst_pairs(experiment: Experiment, row: int, most: int = WORST) -> list[Confusion]:
    """The ``most`` pairs that the finished runs of a row confuse most often, worst first."""
    outcomes = [run.outcome for run in experiment.runs[row] if run.outcome is not None]
    return confused_pairs(experiment.pictures, outcomes, most)


@dataclass(frozen=True)
class Trio:
    """Paths of the three pictures of a confusion; None if there is no file.

    Attributes:
        wrong: the test picture.
        target, decided: a training picture of each of the two products.
    """

    wrong: Path | None
    target: Path | None
    decided: Path | None


def picture_files(run: ExperimentRun, ids: Sequence[str]) -> tuple[list[Path | None], str]:
    """Files of pictures through the data settings of a run; None for one that is gone.

    Returns:
        One for each id and "", or none and a sentence that explains why.
    """
    by_id, problem = _samples(run, ids)
    if by_id is None:
        return [], problem
    return [_existing(by_id.loc[name, "path"]) for name in ids], ""


def _samples(run: ExperimentRun, ids: Iterable[str]) -> tuple[pd.DataFrame | None, str]:
    """The sample table of a run by id, or why it cannot be used."""
    assert run.settings is not None
    try:
        samples = read_samples(run.settings.folder)
    # Readers fail in many ways on data that has moved, and the report does not depend on pictures.
    except Exception as error:
        return None, f"No pictures: the samples of {run.row} cannot be read ({reason(error)})."
    by_id = samples.set_index("id", drop=False)
    if not set(ids) <= set(by_id.index):
        return (
            None,
            "No pictures: the data has changed and lacks pictures that the runs were tested on.",
        )
    return by_id, ""


def find_pictures(run: ExperimentRun, pairs: Sequence[Confusion]) -> tuple[list[Trio], str]:
    """Find pictures of confused pairs through the data settings of a run.

    Returns:
        One trio per pair and "", or no trios and a sentence that explains why.
    """
    by_id, problem = _samples(run, [pair.picture for pair in pairs])
    if by_id is None:
        return [], problem
    assert run.settings is not None
    folder = run.settings.folder
    label = str(folder.config()["task"].get("label", "label"))
    training = by_id[by_id["split"] != "test"]
    trios = []
    for pair in pairs:
        wrong = by_id.loc[pair.picture]
        view = wrong.get("view") if "view" in by_id else None
        trios.append(
            Trio(
                _existing(wrong["path"]),
                _example(training, label, pair.target, view),
                _example(training, label, pair.decided, view),
            )
        )
    return trios, ""


def _example(training: pd.DataFrame, label: str, product: str, view: object) -> Path | None:
    """A training picture of a product, from the view nearest to ``view``."""
    if label not in training:
        return None
    candidates = training[training[label].astype(str) == product]
    if candidates.empty:
        return None
    if isinstance(view, int | float | np.number) and "view" in candidates:
        distance = (pd.to_numeric(candidates["view"], errors="coerce") - float(view)).abs()
        candidates = candidates.iloc[np.argsort(distance.to_numpy(), kind="stable")]
    return _existing(candidates["path"].iloc[0])


def _existing(path: object) -> Path | None:
    """The path, which may point into a shard; None if its file does not exist."""
    place = place_in_shard(str(path))
    file = Path(str(path) if place is None else place[0])
    return Path(str(path)) if file.is_file() else None
