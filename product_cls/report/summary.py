"""An experiment's numbers as tables and sentences; the same for terminal, Markdown and HTML."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.report.experiment import Experiment, excluded
from product_cls.report.statistics import (
    LEVEL,
    Differences,
    RowSummary,
    Tau,
    compare_rows,
    count_hits,
    holm,
    known_mean,
    rank_agreement,
    summarise_rows,
)


@dataclass(frozen=True)
class Summary:
    """What the experiment showed. Accuracies are shares of 1; arrays are ``[R]``.

    Attributes:
        baseline: position of the row that others are compared with.
        accuracy: of each run, ``[R, S]``.
        rows: mean, spread and interval.
        differences: to the baseline, paired.
        p: of the differences, corrected for the number of rows planned (Holm).
        verdict: a word a row; "" for the baseline, "no run" without a pair of runs.
        published: per cent, NaN where unknown.
        tau: agreement of the measured with the published order; None without one.
        unit: what was resampled beside the runs: ``products`` or ``pictures``.
        views: names of views and accuracy by view, ``[R, V]``, mean over the finished runs.
    """

    baseline: int
    accuracy: np.ndarray
    rows: RowSummary
    differences: Differences
    p: np.ndarray
    verdict: list[str]
    published: np.ndarray
    tau: Tau | None
    unit: str
    views: list[str]
    by_view: np.ndarray


def find_baseline(experiment: Experiment, name: str | None) -> int:
    """The row to compare with: by name, else "nothing left out", else the first.

    Raises:
        UserError: there is no such row.
    """
    if name is None:
        empty = [k for k, row in enumerate(experiment.rows) if row == "nothing"]
        return empty[0] if experiment.ablation and empty else 0
    for k, (row, cell) in enumerate(zip(experiment.rows, experiment.cells, strict=True)):
        typed = ",".join(f"{f}={v}" for f, v in zip(experiment.factors, cell, strict=True))
        if name in (row, typed, ",".join(cell)):
            return k
    raise UserError(f"baseline={name} is no row; the rows are: {'; '.join(experiment.rows)}.")


def summarise_experiment(
    experiment: Experiment,
    *,
    baseline: str | None = None,
    published: Mapping[frozenset[str], float] | None = None,
    by_product: bool = True,
) -> Summary:
    """All numbers of the report.

    Args:
        experiment: with at least one finished run.
        baseline: a row's name.
        published: scores in per cent by what is left out.
        by_product: resample products with all their pictures, which are right or wrong together;
            False treats every picture as independent of all others.

    Raises:
        UserError: no such baseline, or published numbers for a sweep that is no ablation.
    """
    if published and not experiment.ablation:
        raise UserError(
            "published=recipe_a is a table of what is left out, but this sweep varies "
            f"{' and '.join(experiment.factors) or 'only seeds or folds'}; use published=none."
        )
    chosen = find_baseline(experiment, baseline)
    pictures, correct = experiment.pictures, experiment.correct()
    units = pictures.product if by_product else np.arange(len(pictures.id))
    hits, sizes = count_hits(correct, units)
    accuracy = hits.sum(axis=2) / sizes.sum()
    differences = compare_rows(hits, sizes, chosen)
    others = np.arange(len(experiment.rows)) != chosen
    p = np.full(len(experiment.rows), np.nan)
    p[others] = holm(differences.p[others])
    table = published or {}
    known = np.full(len(p), np.nan)
    for k, cell in enumerate(experiment.cells if table else []):
        known[k] = table.get(frozenset(excluded(cell[0])), np.nan)
    views = sorted({view for view in pictures.view if view}, key=natural_key)
    views = views if len(views) > 1 else []
    parts = [correct[:, :, pictures.view == view].mean(axis=2) for view in views]
    return Summary(
        baseline=chosen,
        accuracy=accuracy,
        rows=summarise_rows(accuracy),
        differences=differences,
        p=p,
        verdict=[_verdict(experiment.ablation, differences, p, k, chosen) for k in range(len(p))],
        published=known,
        tau=rank_agreement(hits[others], sizes, known[others]) if table else None,
        unit="products" if by_product else "pictures",
        views=views,
        by_view=np.array([known_mean(part, axis=1) for part in parts]).T.reshape(len(p), -1),
    )


def _verdict(ablation: bool, found: Differences, p: np.ndarray, row: int, baseline: int) -> str:
    """``helps``: what this row leaves out helps, for without it accuracy is lower."""
    if row == baseline:
        return ""
    if not found.pairs[row]:
        return "no pair of runs"
    if not p[row] < LEVEL:
        return "not shown"
    lower, higher = ("helps", "hurts") if ablation else ("worse", "better")
    return lower if found.estimate[row] < 0 else higher


def runs_word(count: int, planned: int) -> str:
    """``3``, or ``2 of 3`` where runs are missing."""
    return str(count) if count == planned else f"{count} of {planned}"


def result_table(experiment: Experiment, summary: Summary) -> pd.DataFrame:
    """The table for readers: accuracy in per cent, differences in points."""
    rows, differences = summary.rows, summary.differences
    paired = len(experiment.rows) > 1
    published = not np.isnan(summary.published).all()
    lines = []
    for k, name in enumerate(experiment.rows):
        line: dict[str, str | float] = {
            "left out" if experiment.ablation else ", ".join(experiment.factors) or "setting": name,
            "accuracy": 100 * rows.mean[k],
            "sd": 100 * rows.sd[k],
            "95 % (runs)": _interval(rows.low[k], rows.high[k]),
        }
        if paired:
            own = k == summary.baseline
            line |= {
                "difference": "" if own else _signed(differences.estimate[k]),
                f"95 % (runs, {summary.unit})": ""
                if own
                else _interval(differences.low[k], differences.high[k], "+"),
                "p (Holm)": "" if own else p_word(summary.p[k]),
                "verdict": summary.verdict[k],
            }
        if published:
            base = summary.published[summary.baseline]
            change = (summary.published[k] - base) / 100
            line |= {
                "published": summary.published[k],
                "published difference": "" if k == summary.baseline else _signed(change),
            }
        line["runs"] = runs_word(int(rows.count[k]), len(experiment.replicates))
        lines.append(line)
    return pd.DataFrame(lines)


def csv_table(experiment: Experiment, summary: Summary) -> pd.DataFrame:
    """The same and more, as numbers: per cent and points; a column a run and a view."""
    rows, differences = summary.rows, summary.differences
    base = summary.published[summary.baseline]
    lines = []
    for k, name in enumerate(experiment.rows):
        own = k == summary.baseline
        line: dict[str, object] = {
            "row": name,
            "setting": ",".join(
                f"{f}={v}" for f, v in zip(experiment.factors, experiment.cells[k], strict=True)
            ),
            "runs": int(rows.count[k]),
            "planned": len(experiment.replicates),
            "accuracy": 100 * rows.mean[k],
            "sd": 100 * rows.sd[k],
            "low": 100 * rows.low[k],
            "high": 100 * rows.high[k],
            "pairs": "" if own else int(differences.pairs[k]),
            "difference": 100 * differences.estimate[k],
            "difference_low": 100 * differences.low[k],
            "difference_high": 100 * differences.high[k],
            "p": differences.p[k],
            "p_holm": summary.p[k],
            "verdict": "baseline" if own else summary.verdict[k],
            "published": summary.published[k],
            "published_difference": summary.published[k] - base,
        }
        for s, replicate in enumerate(experiment.replicates):
            line[f"accuracy {replicate}"] = 100 * summary.accuracy[k, s]
        for v, view in enumerate(summary.views):
            line[f"accuracy view {view}"] = 100 * summary.by_view[k, v]
        line["not done"] = "; ".join(
            f"{job.replicate} {job.state}: {job.reason}"
            for job in experiment.jobs[k]
            if job.state != "done"
        )
        lines.append(line)
    return pd.DataFrame(lines)


def view_table(experiment: Experiment, summary: Summary) -> pd.DataFrame:
    """Accuracy in per cent by view, mean over the finished runs; empty without views."""
    columns = {f"view {view}": 100 * summary.by_view[:, v] for v, view in enumerate(summary.views)}
    return pd.DataFrame(
        {
            "row": experiment.rows,
            **columns,
            "all": 100 * summary.rows.mean,
            "runs": [runs_word(int(n), len(experiment.replicates)) for n in summary.rows.count],
        }
        if columns
        else {}
    )


def p_word(p: float) -> str:
    """As papers print it: ``.010``, ``< .001``, ``1``."""
    if np.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else "1" if p > 0.9995 else f"{p:.3f}".removeprefix("0")


def _signed(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:+.2f}"


def _interval(low: float, high: float, sign: str = "") -> str:
    return "-" if np.isnan(low) else f"{100 * low:{sign}.2f} to {100 * high:{sign}.2f}"
