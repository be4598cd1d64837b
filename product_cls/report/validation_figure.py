"""The plot of the validation report."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from product_cls.display.style import BLUE, GREY, INK, PALE, VERMILION, open_panel


def validation_figure(table: pd.DataFrame, unseen: str) -> Figure:
    """Both kinds of validation against the test, one point of each kind per setting.

    Args:
        table: ``validation_study.Study.table``, in per cent.
        unseen: names of the test views that training never saw; "" leaves their panel out.
    """
    targets = {"test": "test accuracy (%), all views"}
    if unseen:
        targets["unseen"] = f"test accuracy (%) at view {unseen}, in no training split"
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
        # The two points of a setting share a height; the line between them shows their
        # disagreement.
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
