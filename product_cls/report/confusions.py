"""Products that are taken for each other, with pictures of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf

from product_cls.data.pictures import place_in_shard
from product_cls.errors import reason
from product_cls.report.experiment import Experiment, Job
from product_cls.report.outcomes import Outcome, Pictures
from product_cls.runs import RunFolder

WORST = 8  # pairs shown


@dataclass(frozen=True)
class Confusion:
    """A pair of products, over all finished runs of a row.

    Attributes:
        target, decided: what the pictures show and what they were taken for.
        share: of the target's pictures, over all runs, 0 to 1.
        count: wrong decisions; a picture counts once a run.
        picture: id of the picture that most runs took for the other (the first of several).
        runs: how many did.
        view: of that picture, "" where unknown.
    """

    target: str
    decided: str
    share: float
    count: int
    picture: str
    runs: int
    view: str


def worst_pairs(experiment: Experiment, row: int, most: int = WORST) -> list[Confusion]:
    """The pairs most often confused by a row's finished runs, worst first."""
    outcomes = [job.outcome for job in experiment.jobs[row] if job.outcome is not None]
    return confused_pairs(experiment.pictures, outcomes, most)


def confused_pairs(
    pictures: Pictures, outcomes: Sequence[Outcome], most: int = WORST
) -> list[Confusion]:
    """The pairs most often confused by some runs on the same pictures, worst first."""
    parts = [
        pd.DataFrame(
            {
                "target": pictures.name,
                "decided": outcome.decided,
                "picture": np.arange(len(pictures.id)),
            }
        )[outcome.correct == 0]
        for outcome in outcomes
    ]
    if not parts:
        return []
    wrong = pd.concat(parts)
    total = pd.Series(pictures.name).value_counts() * len(parts)
    pairs = wrong.groupby(["target", "decided"]).size().reset_index(name="count")
    # Names break ties, so that the order does not depend on that of the rows.
    pairs = pairs.sort_values(["count", "target", "decided"], ascending=[False, True, True])
    result = []
    for target, decided, count in pairs.head(most).itertuples(index=False):
        same = wrong[(wrong["target"] == target) & (wrong["decided"] == decided)]
        votes = same["picture"].value_counts(sort=False).sort_index()
        picture = int(votes.idxmax())
        result.append(
            Confusion(
                target=str(target),
                decided=str(decided),
                share=float(count / total[target]),
                count=int(count),
                picture=str(pictures.id[picture]),
                runs=int(votes.max()),
                view=str(pictures.view[picture]),
            )
        )
    return result


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


def read_samples(folder: RunFolder) -> pd.DataFrame:
    """The sample table that a run's config tells, as it is now.

    Raises:
        FileNotFoundError: its data is no longer there; and whatever else its reader raises.
    """
    # Imported here, for it brings Lightning, which a report without pictures need not wait for.
    from product_cls import config as settings

    config = OmegaConf.create(folder.config_file.read_text())
    for key in ("root", "file"):
        place = config.data.get(key)
        # Asked first, because a reader of rendered products would render them anew.
        if place and not Path(place).expanduser().exists():
            raise FileNotFoundError(f"there is no data.{key}={place}")
    samples: pd.DataFrame = settings.build(config.data.samples)
    return samples


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
