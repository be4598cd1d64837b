"""Accuracy of each model of a sweep: single folds, votes of folds, test-time augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_cls.analysis.outcomes import Pictures
from product_cls.core.cli import command_words
from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.display.tables import markdown
from product_cls.ensemble.voting import blend_predictions
from product_cls.inference.predictions import Predictions
from product_cls.report.experiment import Experiment
from product_cls.report.notes import FEW
from product_cls.report.published import MODELS, TTA_GAIN, VOTE_GAIN
from product_cls.report.resampling import draw_units, interval, with_interval
from product_cls.report.statistics import count_hits
from product_cls.report.summary import runs_word
from product_cls.report.sweep_plan import ExperimentRun

ALL = "all models"
KINDS = ("plain", "tta")  # scores of unaugmented pictures; averaged over augmented views


@dataclass(frozen=True)
class Votes:
    """Whether a model's S finished runs decide correctly on N pictures; axis 0 is ``KINDS``.

    Attributes:
        name: name of the row.
        planned: the model's runs, finished or not.
        runs: correct decisions of each finished run, bool ``[2, S, N]``.
        vote: correct decisions of their vote, bool ``[2, N]``.
    """

    name: str
    planned: Sequence[ExperimentRun]
    runs: np.ndarray
    vote: np.ndarray


def read_votes(experiment: Experiment) -> list[Votes]:
    """Soft votes of the finished runs of each model, and of all runs together.

    A soft vote is the mean of the runs' probabilities, each run with weight 1.

    Raises:
        UserError: the sweep does not vary ``model`` and ``fold``, the runs cannot be blended, or
            their task is not single_label.
    """
    _check_sweep(experiment)
    result: list[Votes] = []
    blends: list[tuple[str, Predictions]] = []
    count = len(experiment.pictures.id)
    for name, planned in zip(experiment.rows, experiment.runs, strict=True):
        members = []
        for run in planned:
            if run.done and run.settings is not None:
                file = run.settings.folder.predictions_file("test")
                members.append((f"{name}, {run.replicate}", Predictions.load(file)))
        if not members:
            nothing = np.zeros((2, 0, count), bool), np.zeros((2, count), bool)
            result.append(Votes(name, planned, *nothing))
            continue
        blends.append((name, blend_predictions(members)))
        runs = np.stack([_right(part, experiment.pictures) for _, part in members], axis=1)
        result.append(Votes(name, planned, runs, _right(blends[-1][1], experiment.pictures)))
    if len(result) > 1:
        weights = [votes.runs.shape[1] for votes in result if votes.runs.shape[1]]
        blend = blend_predictions(blends, weights=weights)
        all_planned = [run for votes in result for run in votes.planned]
        runs = np.concatenate([votes.runs for votes in result], axis=1)
        result.append(Votes(ALL, all_planned, runs, _right(blend, experiment.pictures)))
    return result


def _check_sweep(experiment: Experiment) -> None:
    folds = {
        run.settings.value("fold")
        for row in experiment.runs
        for run in row
        if run.settings is not None and run.settings.value("fold")
    }
    planned = {name for name in experiment.replicates if "fold=" in name}
    if "model" not in experiment.factors or max(len(folds), len(planned)) < 2:
        swept = [*experiment.factors, *{name.partition("=")[0] for name in experiment.replicates}]
        raise UserError(
            f"The runs in {experiment.root} vary {' and '.join(sorted(swept))}, but this report "
            f"needs model and fold ({command_words('train')} -m sweep=models). For the folds of "
            f"one model, use {command_words('ensemble')}."
        )


def _right(predictions: Predictions, pictures: Pictures) -> np.ndarray:
    """Whether each decision is correct, bool ``[2, N]``, in the order of ``pictures``."""
    task = predictions.make_task()
    # Votes are means of scores; runs with a gallery vote by joining their embeddings.
    if not task.one_label or task.needs_gallery:
        raise UserError(
            f"This report needs runs of task=single_label; these have task={task.name}."
        )
    position = pd.Series(np.arange(len(predictions.id)), index=predictions.id)
    part = predictions.rows(position[pictures.id].to_numpy())
    scores = (part.scores_no_tta, part.scores)
    return np.stack([np.asarray(task.decide(s)).astype(np.str_) == pictures.name for s in scores])


def models_table(experiment: Experiment, votes: Sequence[Votes]) -> pd.DataFrame:
    """All numbers, in per cent and points, one row per model; NaN if unknown.

    Columns with the prefix ``plain_`` or ``tta_``: ``fold`` and ``sd`` (mean and standard deviation
    of single runs), ``vote``, ``gain`` (vote minus mean run), and the 95 % intervals of vote and
    gain, with products resampled. Then ``published``, the accuracy of the vote with TTA by view,
    and the accuracy of each run.
    """
    pictures = experiment.pictures
    index = draw_units(int(pictures.product.max()) + 1)
    views = sorted({view for view in pictures.view if view}, key=natural_key)
    lines = []
    for row in votes:
        count = row.runs.shape[1]
        line: dict[str, object] = {"model": row.name, "runs": count, "planned": len(row.planned)}
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
        published = MODELS.get(row.name, np.nan) if experiment.factors == ("model",) else np.nan
        line["published"] = published
        for view in views if len(views) > 1 else []:
            at = pictures.view == view
            line[f"vote view {view}"] = 100 * row.vote[1, at].mean() if count else np.nan
        if row.name != ALL:
            finished = iter(100 * row.runs[1].mean(axis=1))
            line |= {
                f"accuracy {run.replicate}": next(finished) if run.done else np.nan
                for run in row.planned
            }
            line["not done"] = "; ".join(run.problem() for run in row.planned if not run.done)
        lines.append(line)
    return pd.DataFrame(lines)


def _interval(values: np.ndarray, pictures: Pictures, index: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of ``values [N]``, with whole products resampled."""
    hits, sizes = count_hits(values, pictures.product)
    if len(sizes) < 2 or np.isnan(hits).any():
        return np.nan, np.nan
    return interval(hits[index].sum(axis=1) / sizes[index].sum(axis=1))


def readers_table(table: pd.DataFrame) -> pd.DataFrame:
    """``models_table`` for readers: each number and its interval in one cell."""
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
    """Accuracy of the votes with TTA by view; empty if there is only one view."""
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
    """How the numbers were computed and how to read them; shown below the table."""
    pictures = experiment.pictures
    products = int(pictures.product.max()) + 1
    views = {r.settings.value("tta") for r in experiment.finished() if r.settings is not None}
    tta = f" ({' or '.join(sorted(views))})".replace("[", "").replace("]", "") if all(views) else ""
    notes = [
        f"Accuracy in % on {len(pictures.id):,} test pictures of {products:,} products. One fold: "
        "mean and standard deviation (sd) over the runs. Vote: decision by the mean probability of "
        f"all finished runs of the row. TTA: averaged over test-time augmentation{tta}. In "
        "brackets: 95 % confidence interval, products resampled with all their pictures. 'vote - "
        "one fold' is paired: same runs, same pictures.",
    ]
    if products < FEW:
        notes.append(f"With only {products} products, the intervals are approximate.")
    if (short := table["runs"] < table["planned"]).any():
        notes.append(
            f"Votes of fewer runs than planned: {', '.join(table['model'][short])}. With all runs, "
            "their votes may differ."
        )
    if table["published"].notna().any():
        notes.append(
            "Published: on the competition's leaderboard, which uses other pictures than these."
        )
    return notes


def published_reference(table: pd.DataFrame) -> str:
    """The published results as a paragraph; "" if the table's rows already show all of them."""
    if set(MODELS) <= set(table["model"][table["published"].notna()]):
        return ""
    published = pd.DataFrame({"model": list(MODELS), "vote of 5 folds, TTA": list(MODELS.values())})
    return (
        "For reference, published results on ANOTHER data set (the competition's leaderboard, "
        "1,000 products, EfficientNet B0 to B2); do not compare them row by row with the table "
        f"above.\n\n{markdown(published)}\nThere, the vote added {VOTE_GAIN[0]:g} to "
        f"{VOTE_GAIN[1]:g} points to one fold, and test-time augmentation about {TTA_GAIN:g}.\n"
    )
