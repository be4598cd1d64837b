"""Contact sheets: pictures in a grid, with captions."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from product_cls.core.fonts import load_font

LINE = 15  # height of a caption line, in pixels


def contact_sheet(
    pictures: Iterable[np.ndarray],
    captions: Sequence[Sequence[str]],
    *,
    columns: int = 5,
    side: int = 180,
) -> Image.Image:
    """Arrange pictures in rows, each with its caption below.

    Args:
        pictures: RGB, uint8 ``[h, w, 3]``, of any size; read one at a time and scaled to fit a
            square.
        captions: lines of each picture; the first is dark, the others grey.
        columns: pictures in a row.
        side: the square's side in pixels.

    Returns:
        An RGB picture.
    """
    font = load_font(12, serif=False)  # has Hangul, unlike Pillow's own font
    height = side + LINE * max(len(lines) for lines in captions) + 10
    columns = min(columns, len(captions))
    rows = -(-len(captions) // columns)
    sheet = Image.new("RGB", (columns * (side + 10) + 10, rows * height + 10), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        x, y = 10 + k % columns * (side + 10), 10 + k // columns * height
        small = ImageOps.contain(Image.fromarray(picture), (side, side))
        sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
        for row, line in enumerate(lines):
            text = _shorten(line, font, side)
            draw.text((x, y + side + 2 + row * LINE), text, "#222" if row == 0 else "#555", font)
    return sheet


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text``, cut at the front if it is too wide, because paths differ in their last part."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
