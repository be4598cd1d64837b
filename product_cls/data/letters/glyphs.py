"""Letter masks from fonts that are part of installed packages.

Noto Sans KR and Noto Serif KR from pylopdf-fonts-ko (SIL Open Font License), DejaVu, STIX and
Computer Modern from matplotlib (licences in the same folders).
"""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from product_cls.core.fonts import load_font

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SHIPPED = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono-Bold",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
    "cmr10", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip
NOTO = (False, True)  # sans, serif
FONTS = len(NOTO) + len(SHIPPED)
WEIGHTS = (0.0, 0.03, 0.06)  # width of the outline stroke, in letter heights
SIDE = 128  # side of a mask in pixels; a capital letter is half as high


@lru_cache(maxsize=FONTS)
def _font(number: int) -> ImageFont.FreeTypeFont:
    if number < len(NOTO):
        return load_font(SIDE * 2 // 3, NOTO[number])
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    path = folder / f"{SHIPPED[number - len(NOTO)]}.ttf"
    return ImageFont.truetype(str(path), SIDE * 2 // 3, layout_engine=ImageFont.Layout.BASIC)


def require_fonts() -> None:
    """Raise a ``UserError`` naming the missing package if a font is not installed."""
    _font(0)


@lru_cache(maxsize=FONTS * len(WEIGHTS) * len(ALPHABET))
def glyph(letter: str, font: int, weight: int) -> np.ndarray:
    """Mask of a capital letter, centred.

    Args:
        letter: one of ``ALPHABET``.
        font: 0 to ``FONTS`` - 1.
        weight: 0 to ``len(WEIGHTS)`` - 1.

    Returns:
        uint8 ``[SIDE, SIDE]``, 255 on the letter, 0 elsewhere; read-only.
    """
    image = Image.new("L", (SIDE, SIDE))
    stroke = WEIGHTS[weight] * SIDE / 2
    ImageDraw.Draw(image).text(
        (SIDE / 2, SIDE / 2), letter.upper(), 255, _font(font), anchor="mm", stroke_width=stroke
    )
    # Centre by ink and scale to equal height, because fonts differ in both.
    ink = image.getbbox()
    assert ink is not None
    cut = image.crop(ink)
    scale = SIDE / 2 / cut.height
    width = min(max(round(cut.width * scale), 1), SIDE)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    left = (SIDE - width) // 2
    mask[SIDE // 4 : 3 * SIDE // 4, left : left + width] = np.asarray(
        cut.resize((width, SIDE // 2), Image.Resampling.LANCZOS)
    )
    mask.flags.writeable = False
    return mask
