"""Text on contact sheets: fitted to its place, bold, or on a coloured ground."""

from PIL import ImageDraw, ImageFont

from product_cls.core.fonts import load_font
from product_cls.core.names import shown
from product_cls.display.style import INK

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MOST = 200  # letters of a text that are measured; no picture has room for more
BOLD = 0.4  # outline in pixels; the font has no bold face
TAG = 17  # height of a tag, pixels


def fit_text(text: str, font: Font, width: float) -> str:
    """``text``, shortened in the middle with ``...`` if it is wider than ``width`` pixels.

    Both ends of a path matter: the product's folder and the file name. What has no letter, such as
    a line break, is escaped.
    """
    text = shown(text)
    if len(text) <= MOST and font.getlength(text) <= width:
        return text
    fits, too_many = 0, min(len(text), MOST + 1)
    while too_many - fits > 1:
        kept = (fits + too_many) // 2
        if font.getlength(_ends(text, kept)) <= width:
            fits = kept
        else:
            too_many = kept
    return _ends(text, fits)


def _ends(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def draw_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    width: float,
    colour: str = INK,
    bold: bool = False,
) -> None:
    """Draw a line of text; ``place`` is its left end, at half its height."""
    font = load_font(size, serif=False)
    stroke = BOLD if bold else 0
    fitted = fit_text(text, font, width)
    draw.text(place, fitted, colour, font, anchor="lm", stroke_width=stroke)


def draw_tag(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], word: str, colour: str, size: int
) -> float:
    """Draw a word in white on a coloured ground.

    Args:
        corner: the tag's upper right corner.

    Returns:
        Width of the tag in pixels.
    """
    font = load_font(size, serif=False)
    width = round(font.getlength(word)) + 10
    right, top = corner
    draw.rounded_rectangle([right - width, top, right - 1, top + TAG - 1], 4, colour)
    draw.text((right - width + 5, top + TAG / 2), word, "white", font, anchor="lm")
    return width
