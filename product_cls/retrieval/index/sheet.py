"""A contact sheet of queries and their neighbours.

Dashes and a word repeat the meaning of a frame's colour, for colour-blind readers and grey prints.
Colours are those of the reports (Okabe and Ito).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from product_cls.core.fonts import load_font
from product_cls.data.pictures import load_picture
from product_cls.display.style import GREEN, GREY, INK, PALE, VERMILION

SIDE = 168  # side of a picture's square, pixels
FRAME = 5  # width of a frame, pixels; a neutral frame has 1
GAP = 14  # between columns, pixels
AFTER_QUERY = 20  # additional pixels, with a line, between a query and its neighbours
LINE = 19  # height of a caption line, pixels
TEXT, SMALL = 14, 12  # font sizes of the first caption line and of the others
DASH = 12  # length of a dash and of the gap after it, pixels

TONES = {True: (GREEN, "right"), False: (VERMILION, "wrong")}


@dataclass(frozen=True)
class SheetCell:
    """A picture with its caption.

    Attributes:
        path: picture file; a grey square with a note replaces a picture that cannot be read.
        lines: caption, the first line in larger type; long lines are shortened in the middle.
        right: marks the picture as right or wrong; None leaves it unmarked.
    """

    path: Path
    lines: Sequence[str]
    right: bool | None = None


def neighbour_sheet(rows: Sequence[Sequence[SheetCell]]) -> Image.Image:
    """Draw queries, each in a row with its neighbours.

    Args:
        rows: one or more, all of the same length, each with the query first.
    """
    columns = len(rows[0])
    lines = max(len(cell.lines) for row in rows for cell in row)
    height = SIDE + 2 * FRAME + lines * LINE + GAP
    width = columns * (SIDE + 2 * FRAME + GAP) + GAP + AFTER_QUERY
    sheet = Image.new("RGB", (width, LINE + GAP + len(rows) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    starts = [
        GAP + k * (SIDE + 2 * FRAME + GAP) + (AFTER_QUERY if k else 0) for k in range(columns)
    ]
    for k, x in enumerate(starts):
        title = f"neighbour {k}" if k else "picture and its answer"
        draw.text((x, GAP // 2), title, GREY, load_font(SMALL, serif=False))
    line = starts[0] + SIDE + 2 * FRAME + (GAP + AFTER_QUERY) // 2
    draw.line([(line, GAP), (line, sheet.height - GAP)], PALE)
    for k, row in enumerate(rows):
        for x, cell in zip(starts, row, strict=True):
            _draw_cell(sheet, draw, cell, x, LINE + GAP + k * height)
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: SheetCell, left: int, top: int
) -> None:
    small = load_font(SMALL, serif=False)
    outer = SIDE + 2 * FRAME
    try:
        picture = ImageOps.contain(Image.fromarray(load_picture(cell.path)), (SIDE, SIDE))
        offset = (SIDE - picture.width) // 2 + FRAME, (SIDE - picture.height) // 2 + FRAME
        sheet.paste(picture, (left + offset[0], top + offset[1]))
    except OSError:
        draw.rectangle([left, top, left + outer - 1, top + outer - 1], PALE)
        draw.text((left + FRAME + 6, top + FRAME + 6), "cannot be read", INK, small)
    y = top + outer + 2
    room = outer
    if cell.right is None:
        draw.rectangle([left, top, left + outer - 1, top + outer - 1], outline=GREY)
    else:
        colour, word = TONES[cell.right]
        _draw_frame(draw, left, top, outer, colour, dashed=not cell.right)
        tag = round(small.getlength(word)) + 10
        room = outer - tag - 4
        draw.rounded_rectangle(
            [left + outer - tag, y + 1, left + outer - 1, y + LINE - 2], 4, colour
        )
        draw.text((left + outer - tag + 5, y + LINE // 2), word, "white", small, anchor="lm")
    for k, text in enumerate(cell.lines):
        font = small if k else load_font(TEXT, serif=False)
        fitted = fit_text(text, font, outer if k else room)
        middle = y + k * LINE + LINE // 2
        draw.text((left, middle), fitted, "#555555" if k else INK, font, anchor="lm")


def _draw_frame(
    draw: ImageDraw.ImageDraw, left: int, top: int, outer: int, colour: str, *, dashed: bool
) -> None:
    step, length = (2 * DASH, DASH) if dashed else (outer, outer)
    for start in range(0, outer, step):
        end = min(start + length, outer) - 1
        for near, far in ((0, FRAME - 1), (outer - FRAME, outer - 1)):
            draw.rectangle([left + start, top + near, left + end, top + far], colour)
            draw.rectangle([left + near, top + start, left + far, top + end], colour)


def fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text``, shortened in the middle with ``...`` if it is wider than ``width`` pixels.

    Both ends of a path matter: the product's folder and the file name.
    """
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept and font.getlength(short := _ends(text, kept)) > width:
        kept -= 1
    return short


def _ends(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
