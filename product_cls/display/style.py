"""Colours, markers and axes that all plots share."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
DARK_ORANGE = "#9A5B00"  # readable behind white text
SHADES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, "#56B4E9", INK, GREY)
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def open_panel(axes: Axes, x: str = "", y: str = "") -> None:
    """Style a panel: no box, faint grid lines, and axis labels unless they are empty."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=8)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    if x:
        axes.set_xlabel(x, fontsize=9, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=9, color=INK)
