"""Colours, markers and axes that all plots share."""

import io
from functools import cache

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text

from product_cls.core.fonts import font_file

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
DARK_ORANGE = "#9A5B00"  # readable behind white text
SHADES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, "#56B4E9", INK, GREY)
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    _show_names(figure)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _show_names(figure: Figure) -> None:
    """Draw names as they are: Hangul from a font that has it, and ``$`` not as mathematics."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        # Texts of ticks are empty until they are drawn, and powers of ten are mathematics.
        if text.get_text() and "\\mathdefault" not in text.get_text():
            text.set_parse_math(False)
            if not text.get_text().isascii():
                text.set_fontfamily([*text.get_fontfamily(), _hangul()])


@cache
def _hangul() -> str:
    """Name of a font with Hangul, once it is known to Matplotlib."""
    file = font_file(serif=False)
    fontManager.addfont(file)
    return str(FontProperties(fname=file).get_name())


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
