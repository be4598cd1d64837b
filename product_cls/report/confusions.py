"""Products that are taken for each other, with pictures of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from product_cls.analysis.confusions import WORST, Confusion, confused_pairs
from product_cls.analysis.samples import read_samples
from product_cls.core.errors import reason
from product_cls.data.pictures import place_in_shard
from product_cls.report.experiment import Experiment, Job


def worst_pairs(experiment: Experiment, row: int, most: int = WORST) -> list[Confusion]:
    """The pairs most often confused by a row's finished runs, worst first."""
    outcomes = [job.outcome for job in experiment.jobs[row] if job.outcome is not None]
    return confused_pairs(experiment.pictures, outcomes, most)


@dataclass(frozen=True)
class Trio:
    """Paths of three pictures; None where there is no such picture."""

    wrong: Path | None
    target: Path | None
    decided: Path | None


def find_pictures(
    experiment: Experiment, job: Job, pairs: Sequence[Confusion]
) -> tuple[list[Trio], str]:
    """Where the pictures of confused pairs lie: the wrong one, and a training picture of each.

    Args:
        experiment: whose pictures.
        job: whose config tells where the samples are.
        pairs: confusions.

    Returns:
        One trio a pair, and "" - or no trio and a sentence about what is in the way.
    """
    assert job.found is not None
    try:
        samples = read_samples(job.found.folder)
    # Whatever it is that keeps an old run's data from being read, the report can do without.
    except Exception as error:
        why = reason(error)
        return [], f"No pictures of them: the samples of {job.row} cannot be read ({why})."
    by_id = samples.set_index("id")
    if not {pair.picture for pair in pairs} <= set(by_id.index):
        return [], "No pictures of them: the samples now hold other pictures than the runs saw."
    config = yaml.safe_load(job.found.folder.config_file.read_text())
    label = str(config["task"].get("label", "label"))
    learned = samples[samples["split"] != "test"]
    trios = []
    for pair in pairs:
        wrong = by_id.loc[pair.picture]
        view = wrong.get("view") if "view" in by_id else None
        trios.append(
            Trio(
                _there(wrong["path"]),
                _example(learned, label, pair.target, view),
                _example(learned, label, pair.decided, view),
            )
        )
    return trios, ""


def _example(learned: pd.DataFrame, label: str, name: str, view: object) -> Path | None:
    """A training picture of a product, of the view nearest to ``view``."""
    if label not in learned:
        return None
    own = learned[learned[label].astype(str) == name]
    if own.empty:
        return None
    if isinstance(view, int | float | np.number) and "view" in own:
        distance = (pd.to_numeric(own["view"], errors="coerce") - float(view)).abs()
        own = own.iloc[np.argsort(distance.to_numpy(), kind="stable")]
    return _there(own["path"].iloc[0])


def _there(path: object) -> Path | None:
    place = place_in_shard(str(path))
    file = Path(str(path) if place is None else place[0])
    return Path(str(path)) if file.is_file() else None
