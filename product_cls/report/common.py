"""What the short reports (models, validation) share: resampling, words for numbers,
figures (of their tables, with the colours of ``plots``) and files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from product_cls.report.experiment import Experiment
from product_cls.report.notes import gaps
from product_cls.report.plots import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SHADES,
    SHAPES,
    VERMILION,
    open_panel,
    png,
)
from product_cls.report.statistics import DRAWS, LEVEL
from product_cls.report.tables import markdown, print_table
from product_cls.runs import write_bytes_whole, write_text_whole

# A bootstrap of few ranks is too sure of itself: without any correlation its 95 % interval leaves
# out 0 in 13 % of tables of 5 things, in 3 % of 6, 5 % of 8 and 6 % of 12 (500 tables each).
FEWEST = 6


def draw_units(count: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Resamples with replacement: int ``[draws, count]``, positions; the same for the same seed."""
    return np.random.default_rng(seed).integers(count, size=(draws, count))


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled values ``[draws]``."""
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """``87.10 (86.20 to 88.00)``; ``-`` where there is no value, no brackets without an interval.

    Args:
        sign: ``+`` for differences.
    """
    if np.isnan(value):
        return "-"
    between = "" if np.isnan(low) else f" ({low:{sign}.2f} to {high:{sign}.2f})"
    return f"{value:{sign}.2f}{between}"


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis, ties at their mean rank.

    Returns:
        ``[...]``; 0 where all values of one side are the same, for they put nothing in order.
    """
    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    result: np.ndarray = np.divide(
        (a * b).sum(axis=-1), scale, out=np.zeros(scale.shape), where=scale > 0
    )
    return result


@dataclass(frozen=True)
class Rank:
    """A rank correlation, or the difference of two, with its 95 % interval.

    The interval is NaN where there are fewer than ``FEWEST`` things to order.
    """

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def word(self, sign: str = "") -> str:
        """``0.71 (0.20 to 1.00)``."""
        return with_interval(self.value, self.low, self.high, sign)


def compare_orders(by: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, Rank]:
    """How well two measures put the same things in the order of a third.

    Things are resampled with all their values, so the difference is paired.

    Args:
        by: the two measures, ``[K]`` each.
        target: ``[K]``.

    Returns:
        The rank correlation of each with ``target``, and ``difference``: the second's minus the
        first's. Empty with fewer than 3 things or where a value is NaN.
    """
    assert len(by) == 2
    first, second = by
    count = len(target)
    if count < 3 or np.isnan([*by.values(), target]).any():
        return {}
    # At full precision, two equal means that were added up in another order are no tie.
    by, target = {key: x.round(9) for key, x in by.items()}, target.round(9)
    index = draw_units(count)
    value = {key: float(rank_correlation(x, target)) for key, x in by.items()}
    drawn = {key: rank_correlation(x[index], target[index]) for key, x in by.items()}
    value["difference"] = value[second] - value[first]
    drawn["difference"] = drawn[second] - drawn[first]
    ends = {k: interval(d) if count >= FEWEST else (np.nan, np.nan) for k, d in drawn.items()}
    return {key: Rank(value[key], *ends[key]) for key in value}


def reader_notes(experiment: Experiment) -> list[str]:
    """What is missing, and what else of the experiment's notes holds for a short report."""
    # Their intervals are not over folds, so what is said of such does not apply.
    kept = [note for note in experiment.notes if not note.startswith("Replicates are folds")]
    return [*gaps(experiment), *kept]


def models_figure(table: pd.DataFrame) -> Figure:
    """Single runs and votes of every model; beside them the votes by view.

    Args:
        table: of ``models.models_table``.
    """
    views = [str(column) for column in table if str(column).startswith("vote view ")]
    size = (10.0 if views else 6.5, 0.5 * len(table) + 1.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 2 if views else 1, sharey=True, squeeze=False)[0]
    y = np.arange(len(table))
    _votes_panel(panels[0], table, y)
    for k, view in enumerate(views):
        look = SHAPES[k % len(SHAPES)], SHADES[k % len(SHADES)]
        name = view.removeprefix("vote ")
        apart = y + 0.16 * (k - (len(views) - 1) / 2)  # near a ceiling they would hide one another
        panels[1].plot(table[view], apart, look[0], color=look[1], markersize=6, label=name)
        panels[1].set_xlabel("vote with TTA by view, test accuracy (%)", fontsize=9)
    for axes in panels:
        open_panel(axes)
        # Below the panel, by inches, so that it stands clear of the labels at any height.
        below: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, -0.5 / (size[1] - 1.2)),
        }
        axes.legend(**below, ncols=3, frameon=False, fontsize=8, columnspacing=1.2)
    panels[0].set_yticks(
        y,
        [
            row.model if row.runs == row.planned else f"{row.model}\n({row.runs} of {row.planned})"
            for _, row in table.iterrows()
        ],
    )
    panels[0].set_ylim(len(table) - 0.4, -0.6)
    return figure


def _votes_panel(axes: Axes, table: pd.DataFrame, y: np.ndarray) -> None:
    axes.set_xlabel("test accuracy (%)", fontsize=9)
    for k, column in enumerate(c for c in table if str(c).startswith("accuracy ")):
        label = None if k else "one fold, TTA"
        axes.plot(table[column], y + 0.2, "|", color=GREY, markersize=9, label=label)
    axes.plot(table["tta_fold"], y + 0.2, "s", color=GREY, markersize=5, label="their mean")
    for kind, shift, face, name in (
        ("plain", -0.25, "white", "vote, no TTA"),
        ("tta", -0.05, BLUE, "vote, TTA"),
    ):
        low, high = table[f"{kind}_vote_low"], table[f"{kind}_vote_high"]
        axes.hlines(y + shift, low, high, color=BLUE, linewidth=1.6)
        vote = table[f"{kind}_vote"]
        axes.plot(vote, y + shift, "o", color=BLUE, markerfacecolor=face, label=f"{name} (95 %)")
    if table["published"].notna().any():
        published, label = table["published"], "published (other pictures)"
        axes.plot(published, y - 0.05, "D", color=ORANGE, markeredgecolor=INK, label=label)
    at = ("axes fraction", "data")
    for row in np.flatnonzero(table["runs"] == 0):
        place = (0.02, float(row))
        axes.annotate("no finished run", place, xycoords=at, va="center", color=VERMILION, size=8)


def validation_figure(table: pd.DataFrame, unseen: str) -> Figure:
    """Both kinds of validation against the test, a point a setting.

    Args:
        table: of ``validation.Study``, in per cent.
        unseen: names of the views that training never saw; "" leaves that panel out.
    """
    targets = {"test": "test accuracy (%), all views"}
    if unseen:
        targets["unseen"] = f"test accuracy (%) at view {unseen}, in no training part"
    figure = Figure(figsize=(4.9 * len(targets), 5.2), layout="constrained")
    panels = figure.subplots(1, len(targets), squeeze=False)[0]
    for axes, (target, label) in zip(panels, targets.items(), strict=True):
        open_panel(axes, "validation accuracy (%)", label)
        y = table[target]
        shown = table[["random", "held_out", target]].to_numpy(dtype=float)
        shown = shown[~np.isnan(shown)]
        low, high = (shown.min(), shown.max()) if len(shown) else (0.0, 100.0)
        pad = 0.06 * max(high - low, 1.0)
        ends = [low - pad, high + pad]
        axes.plot(ends, ends, "--", color=GREY, linewidth=1, label="validation = test")
        # Both points of a setting stand at one height: the line is how much they disagree.
        axes.hlines(y, table["held_out"], table["random"], color=PALE, linewidth=1.2)
        axes.plot(
            table["random"], y, "o", color=BLUE, markerfacecolor="white", label="random folds"
        )
        axes.plot(
            table["held_out"],
            y,
            "s",
            color=VERMILION,
            label="held-out views (number: as in the table)",
        )
        for number, x in enumerate(table["held_out"]):
            if not np.isnan(x + y[number]):
                axes.annotate(
                    str(number + 1),
                    (x, y[number]),
                    xytext=(-6, 3),
                    textcoords="offset points",
                    ha="right",
                    fontsize=7,
                    color=INK,
                )
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


Block = str | tuple[str, pd.DataFrame]  # a paragraph, or a table and its caption


def publish(
    out: Path,
    title: str,
    said: Sequence[str],
    blocks: Sequence[Block],
    table: pd.DataFrame,
    figure: Figure,
) -> None:
    """Print a report and write it: ``table.md``, ``table.csv``, ``plot.png``, each whole or not.

    Args:
        out: the folder.
        title: one line, without a full stop.
        said: what a reader must know first, in sentences.
        blocks: the text; empty ones are left out.
        table: all numbers, for the CSV file.
        figure: the plot.
    """
    for sentence in said:
        print(f"NOTE: {sentence}")
    print(f"{title}.")
    parts = [f"{title}.", "\n".join(f"- {sentence}" for sentence in said)]
    for block in blocks:
        if isinstance(block, str):
            print(block, end="\n" if block else "")
            parts.append(block)
        elif not block[1].empty:
            print_table(block[1], title=block[0])
            parts.append(f"{block[0]}:\n\n{markdown(block[1])}")
    parts.append("![plot of these numbers](plot.png)")
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    write_text_whole(out / "table.md", text)
    write_text_whole(out / "table.csv", table.round(6).to_csv(index=False))
    write_bytes_whole(out / "plot.png", png(figure, dpi=200))
    names = ("table.md", "table.csv", "plot.png")
    print("Written: " + ", ".join(str(out / name) for name in names))
