"""Plots of an experiment.

Colours are from Okabe and Ito's palette, which colour-blind readers can distinguish. A shape or a
word repeats the meaning of every colour, so that a black-and-white print loses nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from product_cls.display.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SHADES,
    SHAPES,
    VERMILION,
)
from product_cls.report.experiment import Experiment
from product_cls.report.summary import Summary, p_word
from product_cls.report.sweep_plan import ExperimentRun

VERDICTS = {
    "helps": BLUE, "better": BLUE, "hurts": VERMILION, "worse": VERMILION, "negligible": INK,
}  # fmt: skip
CURVE_HEIGHT = 1.5  # height of a panel of learning curves, in inches


def _dots_panel(axes: Axes, x: str) -> None:
    """Style a dot plot: no frame except the axis below, and faint vertical grid lines."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    axes.tick_params(axis="x", color=GREY, labelcolor=INK, labelsize=8)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, fontsize=9, color=INK)


def result_figure(experiment: Experiment, summary: Summary) -> Figure:
    """Accuracy of every row and its measured and published difference from the baseline."""
    count = len(experiment.rows)
    paired = count > 1
    height = 0.34 * count + 1.75
    figure = Figure(figsize=(10.0 if paired else 6.5, height), layout="constrained")
    panels = figure.subplots(1, 2 if paired else 1, sharey=True, squeeze=False)[0]
    _accuracy_panel(panels[0], experiment, summary)
    if paired:
        _difference_panel(panels[1], experiment, summary)
    axes = panels[0]
    axes.set_yticks(range(count), _row_labels(experiment, summary))
    axes.set_ylim(count - 0.4, -0.6)
    axes.get_yticklabels()[summary.baseline].set_fontweight("bold")
    if experiment.ablation:
        axes.set_title("left out", loc="right", x=-0.02, fontsize=9, color=GREY, style="italic")
    handles = [handle for panel in panels for handle in panel.get_legend_handles_labels()[0]]
    labels = [label for panel in panels for label in panel.get_legend_handles_labels()[1]]
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        unique.values(),
        unique.keys(),
        loc="outside lower center",
        ncols=6,
        columnspacing=1.4,
        frameon=False,
        fontsize=8,
        handletextpad=0.4,
    )
    return figure


def _row_labels(experiment: Experiment, summary: Summary) -> list[str]:
    planned = len(experiment.replicates)
    return [
        name if count == planned else f"{name}  ({count} of {planned} runs)"
        for name, count in zip(experiment.rows, summary.rows.count, strict=True)
    ]


def _accuracy_panel(axes: Axes, experiment: Experiment, summary: Summary) -> None:
    _dots_panel(axes, "test accuracy (%)")
    rows = summary.rows
    y = np.arange(len(experiment.rows))
    axes.hlines(y, 100 * rows.low, 100 * rows.high, color=INK, linewidth=1.6, label="95 % interval")
    for s in range(len(experiment.replicates)):
        # Runs are drawn below the interval, so that they do not hide the mean.
        axes.plot(
            100 * summary.accuracy[:, s],
            y + 0.22,
            linestyle="none",
            marker="|",
            color=GREY,
            markersize=6,
            markeredgewidth=1.2,
            label="a run",
        )
    axes.plot(100 * rows.mean, y, "o", color=INK, markersize=5.5, label="mean of the runs")
    for k in np.flatnonzero(rows.count == 0):
        axes.annotate(
            "no finished run",
            (0.02, k),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=VERMILION,
        )


def _difference_panel(axes: Axes, experiment: Experiment, summary: Summary) -> None:
    base = experiment.rows[summary.baseline]
    against = "nothing left out" if experiment.ablation and base == "nothing" else base
    _dots_panel(axes, f"difference to {against} (points)")
    differences = summary.differences
    axes.axvline(0, color=GREY, linewidth=1)
    axes.axvspan(-100 * summary.margin, 100 * summary.margin, color=PALE, alpha=0.6, linewidth=0)
    for k in range(len(experiment.rows)):
        if k == summary.baseline or not differences.pairs[k]:
            continue
        colour = VERDICTS.get(summary.verdict[k], GREY)
        shown = summary.verdict[k] in VERDICTS
        low, high = 100 * differences.low[k], 100 * differences.high[k]
        axes.hlines(k, low, high, color=colour, linewidth=1.8)
        axes.plot(
            100 * differences.estimate[k],
            k,
            "o",
            color=colour,
            markersize=6,
            markerfacecolor=colour if shown else "white",
            markeredgewidth=1.4,
            label="difference, decided" if shown else "difference, undecided",
        )
    published = summary.published - summary.published[summary.baseline]
    others = np.arange(len(published)) != summary.baseline
    if not np.isnan(published[others]).all():
        axes.plot(
            np.where(others, published, np.nan),
            np.arange(len(published)) - 0.22,
            linestyle="none",
            marker="D",
            color=ORANGE,
            markeredgecolor=INK,
            markeredgewidth=0.5,
            markersize=4.5,
            label="published (one run)",
        )
    for k, verdict in enumerate(summary.verdict):
        if k != summary.baseline:
            p = "" if np.isnan(summary.p[k]) else f"  p {_equal(p_word(summary.p[k]))}"
            axes.annotate(
                f"{verdict}{p}",
                (1.02, k),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=VERDICTS.get(verdict, GREY),
                annotation_clip=False,
            )


def _equal(word: str) -> str:
    return word if word.startswith("<") else f"= {word}"


def view_figure(experiment: Experiment, summary: Summary) -> Figure:
    """Accuracy of every row by view."""
    count = len(experiment.rows)
    figure = Figure(figsize=(7.5, 0.3 * count + 1.5), layout="constrained")
    axes = figure.subplots()
    _dots_panel(axes, "test accuracy (%), mean over the finished runs")
    y = np.arange(count)
    low, high = summary.by_view.min(axis=1), summary.by_view.max(axis=1)
    axes.hlines(y, 100 * low, 100 * high, color=PALE, linewidth=2)
    for v, view in enumerate(summary.views):
        axes.plot(
            100 * summary.by_view[:, v],
            y,
            linestyle="none",
            marker=SHAPES[v % len(SHAPES)],
            color=SHADES[v % len(SHADES)],
            markersize=6,
            label=f"view {view}",
        )
    axes.set_yticks(y, _row_labels(experiment, summary))
    axes.set_ylim(count - 0.4, -0.6)
    columns = min(len(summary.views), 8)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def read_curve(run: ExperimentRun, column: str) -> pd.Series | None:
    """A column of a run's ``logs/metrics.csv`` by epoch (from 1).

    None if the file has no such column, or holds anything but finite numbers in it.
    """
    if run.settings is None:
        return None
    try:
        table = pd.read_csv(run.settings.folder.curves_file)
        values = table[["epoch", column]].dropna().astype(float)
    except (OSError, ValueError, KeyError):
        return None
    if not np.isfinite(values.to_numpy()).all():
        return None
    return pd.Series(values[column].to_numpy(), index=values["epoch"].to_numpy() + 1)


def curves_figure(
    experiment: Experiment, baseline: int, column: str, scale: float
) -> Figure | None:
    """Learning curves: one panel per row, with the baseline's runs in grey for comparison.

    Args:
        column: column of ``logs/metrics.csv``.
        scale: factor of the values; 100 shows shares in per cent.

    Returns:
        None if no run has logged the column.
    """
    curves = [[read_curve(run, column) for run in row] for row in experiment.runs]
    if all(curve is None for row in curves for curve in row):
        return None
    columns = min(5, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(
        figsize=(max(2.05 * columns, 5), CURVE_HEIGHT * lines + 0.7), layout="constrained"
    )
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    for k, (axes, row) in enumerate(zip(panels, curves, strict=False)):
        for curve in curves[baseline] if k != baseline else []:
            if curve is not None:
                axes.plot(curve.index, scale * curve, color="#b0b0b0", linewidth=0.9)
        for curve in row:
            if curve is not None:
                # A line through a single epoch would be invisible.
                mark = "o" if len(curve) == 1 else ""
                axes.plot(curve.index, scale * curve, color=BLUE, linewidth=1.1, marker=mark)
        axes.set_title(experiment.rows[k], fontsize=8, color=INK, pad=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7, color=GREY)
        axes.grid(color=PALE, linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch", fontsize=8)
    unit = " (%)" if scale == 100 else ""
    figure.supylabel(column.removesuffix("_epoch") + unit, fontsize=8)
    return figure


def monitored(runs: Sequence[ExperimentRun]) -> str:
    """The validation metric that the runs monitored."""
    return next(
        (str(run.status["metric"]) for run in runs if run.status.get("metric")), "val/accuracy"
    )
