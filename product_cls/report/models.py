"""A sweep over model sizes and folds -> what one fold, votes and test-time augmentation are worth.

python -m product_cls.report.models runs=multirun/models
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.outcomes import Pictures
from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.display.tables import markdown
from product_cls.ensemble.voting import blend_predictions
from product_cls.inference.predictions import Predictions
from product_cls.report.common import (
    Block,
    draw_units,
    interval,
    publish,
    reader_notes,
    with_interval,
)
from product_cls.report.experiment import Experiment, Job, read_experiment
from product_cls.report.models_figure import models_figure
from product_cls.report.notes import FEW, headline
from product_cls.report.published import MODELS, TTA_GAIN, VOTE_GAIN
from product_cls.report.statistics import count_hits
from product_cls.report.summary import runs_word

ALL = "all models"
KINDS = ("plain", "tta")  # of the pictures as they are; averaged over test-time augmentation


@dataclass(frozen=True)
class Votes:
    """How the finished runs of a model did, each and together; the first axis is ``KINDS``.

    Attributes:
        name: of the row.
        jobs: planned, finished or not.
        runs: bool ``[2, S, N]``, right decisions of the S finished runs.
        vote: bool ``[2, N]``, of their vote.
    """

    name: str
    jobs: Sequence[Job]
    runs: np.ndarray
    vote: np.ndarray


def read_votes(experiment: Experiment) -> list[Votes]:
    """Soft votes (mean of probabilities, a run a vote) of each model, then of all runs.

    A vote is over the runs that are finished, however few.

    Raises:
        UserError: a sweep that does not vary ``model`` and ``fold``, or runs that cannot be blended
            or are of another task than single_label.
    """
    _check_sweep(experiment)
    result: list[Votes] = []
    blends: list[tuple[str, Predictions]] = []
    count = len(experiment.pictures.id)
    for name, jobs in zip(experiment.rows, experiment.jobs, strict=True):
        parts = []
        for job in jobs:
            if job.state == "done" and job.found is not None:
                file = job.found.folder.predictions_file("test")
                parts.append((f"{name}, {job.replicate}", Predictions.load(file)))
        if not parts:
            nothing = np.zeros((2, 0, count), bool), np.zeros((2, count), bool)
            result.append(Votes(name, jobs, *nothing))
            continue
        blends.append((name, blend_predictions(parts)))
        runs = np.stack([_right(part, experiment.pictures) for _, part in parts], axis=1)
        result.append(Votes(name, jobs, runs, _right(blends[-1][1], experiment.pictures)))
    if len(result) > 1:
        weights = [votes.runs.shape[1] for votes in result if votes.runs.shape[1]]
        whole = blend_predictions(blends, weights=weights)
        jobs = [job for votes in result for job in votes.jobs]
        runs = np.concatenate([votes.runs for votes in result], axis=1)
        result.append(Votes(ALL, jobs, runs, _right(whole, experiment.pictures)))
    return result


def _check_sweep(experiment: Experiment) -> None:
    folds = {
        job.found.value("fold")
        for row in experiment.jobs
        for job in row
        if job.found is not None and job.found.value("fold")
    }
    planned = {name for name in experiment.replicates if "fold=" in name}
    if "model" not in experiment.factors or max(len(folds), len(planned)) < 2:
        swept = [*experiment.factors, *{name.partition("=")[0] for name in experiment.replicates}]
        raise UserError(
            f"The runs in {experiment.root} vary {' and '.join(sorted(swept))}, but this report is "
            "about model and fold (python train.py -m sweep=models); for the folds of one model "
            "there is python -m product_cls.ensemble."
        )


def _right(predictions: Predictions, pictures: Pictures) -> np.ndarray:
    """Whether the decisions are right, ``[2, N]``, in the order of ``pictures``."""
    if (name := predictions.task["name"]) != "single_label":
        raise UserError(f"This report reads runs of task single_label; these are of {name}.")
    position = pd.Series(np.arange(len(predictions.id)), index=predictions.id)
    part, task = predictions.rows(position[pictures.id].to_numpy()), predictions.make_task()
    scores = (part.scores_no_tta, part.scores)
    return np.stack([np.asarray(task.decide(s)).astype(np.str_) == pictures.name for s in scores])


def models_table(experiment: Experiment, votes: Sequence[Votes]) -> pd.DataFrame:
    """All numbers, in per cent and points, a row a model and NaN where nothing is known.

    Columns, with ``plain`` or ``tta`` before the first ones: ``fold``, ``sd`` (mean and standard
    deviation of single runs), ``vote``, ``gain`` (vote minus mean run) and their 95 % intervals,
    products resampled; ``published``; accuracy of the vote with TTA by view, and of each run.
    """
    pictures = experiment.pictures
    index = draw_units(int(pictures.product.max()) + 1)
    views = sorted({view for view in pictures.view if view}, key=natural_key)
    lines = []
    for row in votes:
        count = row.runs.shape[1]
        line: dict[str, object] = {"model": row.name, "runs": count, "planned": len(row.jobs)}
        for k, kind in enumerate(KINDS):
            single = 100 * row.runs[k].mean(axis=1)
            line |= {
                f"{kind}_fold": single.mean() if count else np.nan,
                f"{kind}_sd": single.std(ddof=1) if count > 1 else np.nan,
            }
            mean = row.runs[k].mean(axis=0) if count else np.full(len(pictures.id), np.nan)
            voted = row.vote[k].astype(float) if count else mean
            for what, values in (("vote", voted), ("gain", voted - mean)):
                low, high = _interval(values, pictures, index)
                line |= {
                    f"{kind}_{what}": 100 * values.mean(),
                    f"{kind}_{what}_low": 100 * low,
                    f"{kind}_{what}_high": 100 * high,
                }
        known = MODELS.get(row.name, np.nan) if experiment.factors == ("model",) else np.nan
        line["published"] = known
        for view in views if len(views) > 1 else []:
            at = pictures.view == view
            line[f"vote view {view}"] = 100 * row.vote[1, at].mean() if count else np.nan
        if row.name != ALL:
            finished = iter(100 * row.runs[1].mean(axis=1))
            line |= {
                f"accuracy {job.replicate}": next(finished) if job.state == "done" else np.nan
                for job in row.jobs
            }
            reasons = (
                f"{j.replicate} {j.state}: {j.reason}" for j in row.jobs if j.state != "done"
            )
            line["not done"] = "; ".join(reasons)
        lines.append(line)
    return pd.DataFrame(lines)


def _interval(values: np.ndarray, pictures: Pictures, index: np.ndarray) -> tuple[float, float]:
    """Of the mean of ``values [N]``, with all pictures of a product drawn together."""
    hits, sizes = count_hits(values, pictures.product)
    if len(sizes) < 2 or np.isnan(hits).any():
        return np.nan, np.nan
    return interval(hits[index].sum(axis=1) / sizes[index].sum(axis=1))


def readers_table(table: pd.DataFrame) -> pd.DataFrame:
    """The same for readers: what a number is and how sure, in one cell."""
    lines = []
    for _, row in table.iterrows():
        line = {"model": row.model, "runs": runs_word(row.runs, row.planned)}
        for k, ending in zip(KINDS, ("", ", TTA"), strict=True):
            sd = "" if np.isnan(row[f"{k}_sd"]) else f" (sd {row[f'{k}_sd']:.2f})"
            line[f"one fold{ending}"] = with_interval(row[f"{k}_fold"], np.nan, np.nan) + sd
        for k, ending in zip(KINDS, ("", ", TTA"), strict=True):
            line[f"vote{ending}"] = _cell(row, f"{k}_vote")
        line["vote - one fold, TTA"] = _cell(row, "tta_gain", "+")
        if table["published"].notna().any():
            line["published vote, TTA"] = with_interval(row.published, np.nan, np.nan)
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(row: pd.Series, name: str, sign: str = "") -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], sign)


def views_table(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the votes with TTA by view; empty where there is but one view."""
    columns = [column for column in table if str(column).startswith("vote view ")]
    if not columns:
        return pd.DataFrame()
    names = {column: str(column).removeprefix("vote ") for column in columns}
    shown = table[["model", *columns]].rename(columns=names)
    return shown.assign(
        all=table["tta_vote"],
        runs=[runs_word(row.runs, row.planned) for _, row in table.iterrows()],
    )


def method_notes(experiment: Experiment, table: pd.DataFrame) -> list[str]:
    """What the numbers are, for below the table."""
    pictures = experiment.pictures
    products = int(pictures.product.max()) + 1
    views = {job.found.value("tta") for job in experiment.finished() if job.found is not None}
    tta = f" ({' or '.join(sorted(views))})".replace("[", "").replace("]", "") if all(views) else ""
    notes = [
        f"Accuracy in % on {len(pictures.id):,} test pictures of {products:,} products. One fold: "
        "mean and standard deviation (sd) over the runs. Vote: mean of the runs' probabilities, of "
        f"all finished runs of the row. TTA: averaged over test-time augmentation{tta}. In "
        "brackets: 95 % interval, products resampled with all their pictures; 'vote - one fold' is "
        "paired: same runs, same pictures.",
    ]
    if products < FEW:
        notes.append(f"With {products} products the intervals are approximate.")
    if (short := table["runs"] < table["planned"]).any():
        notes.append(
            f"Votes of fewer runs than planned: {', '.join(table['model'][short])}; a vote of more "
            "runs would be another one."
        )
    if table["published"].notna().any():
        notes.append("Published: leaderboard of the competition, other pictures than these.")
    return notes


def published_reference(table: pd.DataFrame) -> str:
    """The published table for a sweep over other models; "" where the rows show all of it."""
    if set(MODELS) <= set(table["model"][table["published"].notna()]):
        return ""
    known = pd.DataFrame({"model": list(MODELS), "vote of 5 folds, TTA": list(MODELS.values())})
    return (
        "For reference, published results of ANOTHER data set (leaderboard of the competition, "
        "1,000 products; EfficientNet B0 to B2): not to be compared row by row with the table "
        f"above.\n\n{markdown(known)}\nThere the vote added {VOTE_GAIN[0]:g} to {VOTE_GAIN[1]:g} "
        f"points to one fold, test-time augmentation about {TTA_GAIN:g}.\n"
    )


@dataclass
class Arguments:
    """What model sizes, votes of folds and test-time augmentation are worth.

    runs: the sweep's folder, multirun/NAME, of python train.py -m sweep=models.
    out: where to write; null: RUNS/report.
    """

    runs: str = MISSING
    out: str | None = None


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.models")
    root = Path(arguments.runs)
    experiment = read_experiment(root)
    table = models_table(experiment, read_votes(experiment))
    blocks: list[Block] = [
        ("Test accuracy in %", readers_table(table)),
        *method_notes(experiment, table),
        ("Votes with TTA, accuracy in % by view", views_table(table)),
        published_reference(table),
    ]
    out = Path(arguments.out) if arguments.out else root / "report"
    said = reader_notes(experiment)
    publish(out, headline(experiment), said, blocks, table, models_figure(table))


if __name__ == "__main__":
    guard(main)
