"""How many seeds and minutes an effect takes, from the noise of the runs of a sweep.

python -m product_cls.report.plan runs=multirun/ablation_small effect=1.0
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.runs.folder import find_runs

if TYPE_CHECKING:
    import pandas as pd

    from product_cls.report.experiment import Experiment
    from product_cls.report.statistics import Differences
    from product_cls.report.summary import Summary


@dataclass
class Arguments:
    """Say how many seeds and minutes it takes to show an effect, or to bound it.

    runs: the sweep's folder, multirun/NAME, with two finished seeds or more.
    effect: size of the effect in points of accuracy.
    power: probability of showing an effect of this size, or of bounding one of 0 by it.
    baseline: the row that the others are compared with; as for `product-cls report`.
    jobs: runs at once, for the minutes.
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    """

    runs: str = MISSING
    effect: float = 1.0
    power: float = 0.8
    baseline: str | None = None
    jobs: int = 1
    tta: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.plan")
    if not 0 < arguments.effect < 100:
        raise UserError(f"effect={arguments.effect:g}; allowed: points above 0 and below 100.")
    if not 0 < arguments.power < 1:
        raise UserError(f"power={arguments.power:g}; allowed: above 0 and below 1.")
    if arguments.jobs < 1:
        raise UserError(f"jobs={arguments.jobs}; allowed: 1 or more.")
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds
    # Imported here, so that --help and errors appear at once.
    from product_cls.display.tables import print_table
    from product_cls.report.experiment import read_experiment
    from product_cls.report.summary import summarise_experiment

    experiment = read_experiment(root, tta=arguments.tta)
    summary = summarise_experiment(experiment, baseline=arguments.baseline)
    others = [k for k in range(len(experiment.rows)) if k != summary.baseline]
    if not summary.differences.noise.freedom[others].any():
        raise UserError(
            f"{root} has no row that shares two finished seeds with '"
            f"{experiment.rows[summary.baseline]}', so the noise between seeds is unknown; add "
            f"seeds, such as seed=0,1,2."
        )
    table = plan_table(
        experiment,
        summary.differences,
        others,
        effect=arguments.effect / 100,
        power=arguments.power,
        jobs=arguments.jobs,
    )
    print_table(table, title=f"{root}: noise of a difference, and what an effect takes")
    for sentence in plan_notes(experiment, summary, arguments):
        print(sentence)


def plan_table(
    experiment: "Experiment",
    differences: "Differences",
    rows: list[int],
    *,
    effect: float,
    power: float,
    jobs: int,
) -> "pd.DataFrame":
    """A line for each compared row.

    Args:
        experiment: a sweep.
        differences: to its baseline.
        rows: positions of the compared rows.
        effect: a share above 0.
        power: in (0, 1).
        jobs: runs at once.
    """
    import numpy as np
    import pandas as pd

    from product_cls.report.verdicts import seeds_to_bound, seeds_to_show

    noise = differences.noise
    show = seeds_to_show(noise, effect, rows=len(rows), power=power)
    bound = seeds_to_bound(noise, effect, power=power)
    minutes = run_minutes(experiment) * (len(rows) + 1) / jobs
    points = f"{100 * effect:g}"
    return pd.DataFrame(
        {
            "row": [experiment.rows[k] for k in rows],
            "seeds now": [int(noise.seeds[k]) for k in rows],
            "sd of one seed": [_points(np.sqrt(noise.variance[k])) for k in rows],
            "sd by products": [_points(noise.atoms[:, k].std()) for k in rows],
            f"seeds to show {points}": [_seeds(show[k]) for k in rows],
            f"seeds to bound by {points}": [_seeds(bound[k]) for k in rows],
            "minutes to show": [_minutes(show[k] * minutes) for k in rows],
            "minutes to bound": [_minutes(bound[k] * minutes) for k in rows],
        }
    )


def run_minutes(experiment: "Experiment") -> float:
    """Mean duration of a finished run in minutes; NaN if no run has recorded it."""
    import numpy as np

    seconds = [
        sum(recorded.values())
        for run in experiment.finished()
        if isinstance(recorded := run.metrics.get("seconds"), dict)
    ]
    return float(np.mean(seconds)) / 60 if seconds else np.nan


def plan_notes(experiment: "Experiment", summary: "Summary", arguments: Arguments) -> list[str]:
    """How to read the table, and what pairing by seed buys."""
    import numpy as np

    rows, products = len(experiment.rows), int(experiment.pictures.product.max()) + 1
    notes = [
        f"Points of accuracy. Minutes are of the whole sweep, {rows} rows with as many seeds, at "
        f"{run_minutes(experiment):.1f} minutes a run and {arguments.jobs} at once. Seeds to show "
        f"an effect of {arguments.effect:g}: with a probability of {100 * arguments.power:g} %, "
        f"its p-value is below .05 after correction for {rows - 1} rows. Seeds to bound: with the "
        f"same probability, an effect of 0 is negligible within {arguments.effect:g}.",
        f"sd by products: what a choice of other products would change; the same with any number "
        f"of seeds. Four times as many test products as these {products} halve it.",
    ]
    known = summary.rows.count > 1
    unpaired = 2 * float((summary.rows.sd[known] ** 2).mean()) if known.any() else 0.0
    if unpaired > 0:
        paired = float(np.nanmean(summary.differences.noise.variance))
        notes.append(
            f"Pairing by seed leaves {100 * paired / unpaired:.0f} % of the variance that two "
            f"independent seeds would have (100 %: it buys nothing)."
        )
    return notes


def _points(share: float) -> str:
    return f"{100 * share:.2f}"


def _seeds(count: float) -> str:
    from product_cls.report.verdicts import MOST

    return f"over {MOST}" if count == float("inf") else f"{count:.0f}"


def _minutes(count: float) -> str:
    return "-" if not count < float("inf") else f"{count:.0f}"


if __name__ == "__main__":
    guard(main)
