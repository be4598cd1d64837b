"""A contact sheet of queries and their neighbours.

Dashes and a word repeat the meaning of a frame's colour, for colour-blind readers and grey prints.
Colours are those of the reports (Okabe and Ito).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from product_cls.data.pictures import load_picture
from product_cls.display.captions import TAG, draw_line, draw_tag
from product_cls.display.contact_sheet import SCREEN, page_title
from product_cls.display.style import BLUE, DARK_ORANGE, GREEN, GREY, INK, PALE, VERMILION

SIDE = 144  # side of a picture's square, pixels
FRAME = 5  # width of a frame, pixels; a neutral frame has 1
GAP = 14  # between columns, pixels
AFTER_QUERY = 20  # additional pixels, with a line, between a query and its neighbours
LINE = 19  # height of a caption line, pixels
TEXT, SMALL = 14, 12  # font sizes of the first caption line and of the others
DOT = 2.5  # radius of a point, pixels
DASH = 12  # length of a dash and of the gap after it, pixels

TONES = {True: (GREEN, "right"), False: (VERMILION, "wrong")}


@dataclass(frozen=True)
class SheetCell:
    """A picture with its caption.

    Attributes:
        path: picture file; a grey square with a note replaces a picture that cannot be read.
        lines: caption, the first line in larger type; long lines are shortened in the middle.
        right: marks the picture as right or wrong; None leaves it unmarked.
        bold: the first line, an answer, is bold.
        doubtful: marks the picture as doubtful.
        points: to mark in the picture, as shares of its longer side, float ``[n, 2]``; None for
            none.
    """

    path: Path
    lines: Sequence[str]
    right: bool | None = None
    bold: bool = False
    doubtful: bool = False
    points: np.ndarray | None = None


def neighbour_sheets(rows: Sequence[Sequence[SheetCell]], title: str) -> Iterator[Image.Image]:
    """Sheets of at most one screen each; see ``neighbour_sheet``."""
    size = max(1, (SCREEN[1] - 2 * LINE - 2 * GAP) // _row_height(rows))
    for start in range(0, len(rows), size):
        number = page_title(title, start // size, -(-len(rows) // size))
        yield neighbour_sheet(rows[start : start + size], number)


def _row_height(rows: Sequence[Sequence[SheetCell]]) -> int:
    lines = max(len(cell.lines) for row in rows for cell in row)
    return SIDE + 2 * FRAME + lines * LINE + GAP


def neighbour_sheet(rows: Sequence[Sequence[SheetCell]], title: str = "") -> Image.Image:
    """Draw queries, each in a row with its neighbours.

    Args:
        rows: one or more, all of the same length, each with the query first.
        title: a line above.
    """
    columns, height = len(rows[0]), _row_height(rows)
    width = columns * (SIDE + 2 * FRAME + GAP) + GAP + AFTER_QUERY
    head = LINE if title else 0
    first = head + LINE + GAP
    sheet = Image.new("RGB", (width, first + len(rows) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw_line(draw, (GAP, LINE), title, size=TEXT, width=width - 2 * GAP)
    starts = [
        GAP + k * (SIDE + 2 * FRAME + GAP) + (AFTER_QUERY if k else 0) for k in range(columns)
    ]
    for k, x in enumerate(starts):
        text = f"neighbour {k}" if k else "picture and its answer"
        draw_line(draw, (x, first - LINE / 2), text, size=SMALL, width=SIDE, colour=GREY)
    line = starts[0] + SIDE + 2 * FRAME + (GAP + AFTER_QUERY) // 2
    draw.line([(line, first - LINE), (line, sheet.height - GAP)], PALE)
    for k, row in enumerate(rows):
        for x, cell in zip(starts, row, strict=True):
            _draw_cell(sheet, draw, cell, x, first + k * height)
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: SheetCell, left: int, top: int
) -> None:
    outer = SIDE + 2 * FRAME
    try:
        picture = ImageOps.contain(Image.fromarray(load_picture(cell.path)), (SIDE, SIDE))
        offset = (SIDE - picture.width) // 2 + FRAME, (SIDE - picture.height) // 2 + FRAME
        sheet.paste(picture, (left + offset[0], top + offset[1]))
        for share in [] if cell.points is None else cell.points:
            x, y = max(picture.size) * share + (left + offset[0], top + offset[1])
            draw.ellipse([x - DOT, y - DOT, x + DOT, y + DOT], BLUE, "white")
    except OSError:
        draw.rectangle([left, top, left + outer - 1, top + outer - 1], PALE)
        place = left + FRAME + 6, top + FRAME + 12
        draw_line(draw, place, "cannot be read", size=SMALL, width=SIDE)
    y = top + outer + 2
    room = float(outer)
    if cell.right is None:
        draw.rectangle([left, top, left + outer - 1, top + outer - 1], outline=GREY)
    else:
        colour, word = TONES[cell.right]
        _draw_frame(draw, left, top, outer, colour, dashed=not cell.right)
        room -= draw_tag(draw, (left + outer, y + (LINE - TAG) // 2), word, colour, SMALL) + 4
    if cell.doubtful:
        corner = left + outer - FRAME, top + FRAME
        draw_tag(draw, corner, "doubtful", DARK_ORANGE, SMALL)
    for k, text in enumerate(cell.lines):
        draw_line(
            draw,
            (left, y + k * LINE + LINE // 2),
            text,
            size=SMALL if k else TEXT,
            width=outer if k else room,
            colour="#555555" if k else INK,
            bold=cell.bold and k == 0,
        )


def _draw_frame(
    draw: ImageDraw.ImageDraw, left: int, top: int, outer: int, colour: str, *, dashed: bool
) -> None:
    step, length = (2 * DASH, DASH) if dashed else (outer, outer)
    for start in range(0, outer, step):
        end = min(start + length, outer) - 1
        for near, far in ((0, FRAME - 1), (outer - FRAME, outer - 1)):
            draw.rectangle([left + start, top + near, left + end, top + far], colour)
            draw.rectangle([left + near, top + start, left + far, top + end], colour)
