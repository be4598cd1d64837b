"""The statistics of an experiment, and its tables for terminal, Markdown, HTML and CSV."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.report.experiment import Experiment
from product_cls.report.rank_agreement import Tau, rank_agreement
from product_cls.report.statistics import (
    Differences,
    RowSummary,
    compare_rows,
    count_hits,
    holm,
    known_mean,
    summarise_rows,
)
from product_cls.report.sweep_plan import excluded
from product_cls.report.verdicts import decide, further_seeds

MARGIN = 0.01  # differences of less than a point are negligible


@dataclass(frozen=True)
class Summary:
    """The results of an experiment with R rows, S replicates and V views.

    Accuracies and differences are shares, 0 to 1; arrays are float64 ``[R]`` unless stated
    otherwise.

    Attributes:
        baseline: position of the baseline's row.
        accuracy: accuracy of each run, ``[R, S]``; NaN for unfinished runs.
        rows: mean, standard deviation and interval of each row.
        differences: to the baseline, paired.
        p: p-values of the differences, corrected for the number of planned rows (Holm).
        margin: differences within it are negligible.
        verdict: one word or phrase per row; "" for the baseline.
        further: seeds that each row lacks for a verdict: 0 with one, infinite if no number of seeds
            decides, NaN for the baseline and where it is unknown.
        published: published accuracy in per cent; NaN if unknown.
        tau: agreement of the measured with the published order; None without published values.
        unit: the unit that is resampled, ``products`` or ``pictures``.
        views: names of the V views; empty if there is only one.
        by_view: accuracy by view, ``[R, V]``, mean over the finished runs.
    """

    baseline: int
    accuracy: np.ndarray
    rows: RowSummary
    differences: Differences
    p: np.ndarray
    margin: float
    verdict: list[str]
    further: np.ndarray
    published: np.ndarray
    tau: Tau | None
    unit: str
    views: list[str]
    by_view: np.ndarray


def find_baseline(experiment: Experiment, name: str | None) -> int:
    """Position of the baseline: by name, else the row that leaves nothing out, else the first.

    Raises:
        UserError: there is no such row.
    """
    if name is None:
        complete = [k for k, row in enumerate(experiment.rows) if row == "nothing"]
        return complete[0] if experiment.ablation and complete else 0
    for k, row in enumerate(experiment.rows):
        if name in (row, _typed(experiment, k), ",".join(experiment.factor_values[k])):
            return k
    raise UserError(f"baseline={name}; allowed, a row of the table: {'; '.join(experiment.rows)}.")


def _typed(experiment: Experiment, row: int) -> str:
    """A row as overrides: ``exclude=[mixup],optimizer.lr=0.1``."""
    values = experiment.factor_values[row]
    return ",".join(f"{key}={value}" for key, value in zip(experiment.factors, values, strict=True))


def summarise_experiment(
    experiment: Experiment,
    *,
    baseline: str | None = None,
    published: Mapping[frozenset[str], float] | None = None,
    by_product: bool = True,
    margin: float = MARGIN,
) -> Summary:
    """Compute all numbers of the report.

    Args:
        experiment: with at least one finished run.
        baseline: a row's name.
        published: accuracy in per cent by excluded steps.
        by_product: resample products with all their pictures, which tend to be right or wrong
            together; False treats pictures as independent.
        margin: differences whose whole interval is within it are negligible; a share above 0.

    Raises:
        UserError: no such baseline, or published numbers for a sweep that is not an ablation.
    """
    if published and not experiment.ablation:
        raise UserError(
            "published=recipe_a needs a sweep over exclude alone, but this sweep varies "
            f"{' and '.join(experiment.factors) or 'only seeds or folds'}; use published=none."
        )
    base = find_baseline(experiment, baseline)
    pictures, correct = experiment.pictures, experiment.correct()
    units = pictures.product if by_product else np.arange(len(pictures.id))
    hits, sizes = count_hits(correct, units)
    accuracy = hits.sum(axis=2) / sizes.sum()
    differences = compare_rows(hits, sizes, base)
    others = np.arange(len(experiment.rows)) != base
    p = np.full(len(experiment.rows), np.nan)
    p[others] = holm(differences.p[others])
    table = published or {}
    published_accuracy = np.full(len(p), np.nan)
    for k, values in enumerate(experiment.factor_values if table else []):
        published_accuracy[k] = table.get(frozenset(excluded(values[0])), np.nan)
    views = sorted({view for view in pictures.view if view}, key=natural_key)
    views = views if len(views) > 1 else []
    parts = [correct[:, :, pictures.view == view].mean(axis=2) for view in views]
    return Summary(
        baseline=base,
        accuracy=accuracy,
        rows=summarise_rows(accuracy),
        differences=differences,
        p=p,
        margin=margin,
        verdict=_verdicts(experiment.ablation, differences, p, base, margin),
        further=further_seeds(differences, p, margin),
        published=published_accuracy,
        tau=rank_agreement(hits[others], sizes, published_accuracy[others]) if table else None,
        unit="products" if by_product else "pictures",
        views=views,
        by_view=np.array([known_mean(part, axis=1) for part in parts]).T.reshape(len(p), -1),
    )


def _verdicts(
    ablation: bool, differences: Differences, p: np.ndarray, baseline: int, margin: float
) -> list[str]:
    """The verdict on each row; in an ablation, on the excluded step: ``helps`` means that accuracy
    is lower without it."""
    lower, higher = ("helps", "hurts") if ablation else ("worse", "better")
    words = [
        {"lower": lower, "higher": higher}.get(word, word)
        for word in decide(differences, p, margin)
    ]
    words = [
        word if pairs else "no pair of runs"
        for word, pairs in zip(words, differences.pairs, strict=True)
    ]
    words[baseline] = ""
    return words


def further_word(further: float) -> str:
    """``4``, or what else decides: ``more products``; "" with a verdict or without noise."""
    if np.isnan(further) or further == 0:
        return ""
    return "more products" if np.isinf(further) else f"{further:.0f}"


def further_name(experiment: Experiment) -> str:
    """What a sweep adds to lessen the noise: ``seeds``, or ``runs`` where folds are replicates."""
    return "seeds" if all("fold" not in name for name in experiment.replicates) else "runs"


def runs_word(count: int, planned: int) -> str:
    """``3``, or ``2 of 3`` if runs are missing."""
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
            is_base = k == summary.baseline
            line |= {
                "difference": "" if is_base else _signed(differences.estimate[k]),
                f"95 % (runs, {summary.unit})": ""
                if is_base
                else _interval(differences.low[k], differences.high[k], "+"),
                "p (Holm)": "" if is_base else p_word(summary.p[k]),
                "verdict": summary.verdict[k],
            }
            if any(map(further_word, summary.further)):
                line[f"further {further_name(experiment)}"] = further_word(summary.further[k])
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
    """All results as numbers, in per cent and points; one column for each run and each view."""
    rows, differences = summary.rows, summary.differences
    base = summary.published[summary.baseline]
    lines = []
    for k, name in enumerate(experiment.rows):
        is_base = k == summary.baseline
        line: dict[str, object] = {
            "row": name,
            "setting": _typed(experiment, k),
            "runs": int(rows.count[k]),
            "planned": len(experiment.replicates),
            "accuracy": 100 * rows.mean[k],
            "sd": 100 * rows.sd[k],
            "low": 100 * rows.low[k],
            "high": 100 * rows.high[k],
            "pairs": "" if is_base else int(differences.pairs[k]),
            "difference": 100 * differences.estimate[k],
            "difference_low": 100 * differences.low[k],
            "difference_high": 100 * differences.high[k],
            "p": differences.p[k],
            "p_holm": summary.p[k],
            "verdict": "baseline" if is_base else summary.verdict[k],
            "further": "" if is_base else further_word(summary.further[k]),
            "published": summary.published[k],
            "published_difference": summary.published[k] - base,
        }
        for s, replicate in enumerate(experiment.replicates):
            line[f"accuracy {replicate}"] = 100 * summary.accuracy[k, s]
        for v, view in enumerate(summary.views):
            line[f"accuracy view {view}"] = 100 * summary.by_view[k, v]
        line["not done"] = "; ".join(run.problem() for run in experiment.runs[k] if not run.done)
        lines.append(line)
    return pd.DataFrame(lines)


def view_table(experiment: Experiment, summary: Summary) -> pd.DataFrame:
    """Accuracy in per cent by view, mean over the finished runs; empty for a single view."""
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
    """A p-value as papers print it: ``.010``, ``< .001``, ``1``; ``-`` for NaN."""
    if np.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else "1" if p > 0.9995 else f"{p:.3f}".removeprefix("0")


def _signed(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:+.2f}"


def _interval(low: float, high: float, sign: str = "") -> str:
    return "-" if np.isnan(low) else f"{100 * low:{sign}.2f} to {100 * high:{sign}.2f}"
