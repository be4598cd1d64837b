"""The plot of the models report."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from product_cls.display.style import BLUE, GREY, INK, ORANGE, SHADES, SHAPES, VERMILION, open_panel


def models_figure(table: pd.DataFrame) -> Figure:
    """Single runs and votes of every model and, beside them, the votes by view.

    Args:
        table: from ``model_votes.models_table``.
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
        # Shifted apart, because views near 100 % would hide each other.
        shifted = y + 0.16 * (k - (len(views) - 1) / 2)
        panels[1].plot(table[view], shifted, look[0], color=look[1], markersize=6, label=name)
        panels[1].set_xlabel("vote with TTA by view, test accuracy (%)", fontsize=9)
    for axes in panels:
        open_panel(axes)
        # Half an inch below the panel, clear of the axis labels at any height.
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
