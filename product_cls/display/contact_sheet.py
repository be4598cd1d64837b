"""Contact sheets: pictures in a grid, with captions."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from product_cls.core.files import whole_file
from product_cls.display.captions import draw_line, draw_tag
from product_cls.display.style import DARK_ORANGE, GREY, INK

LINE = 15  # height of a caption line, in pixels
TEXT = 12  # size of the font
SIDE = 180  # of a picture's square, in pixels
SCREEN = (1600, 1000)  # pixels of a sheet that fits on a screen, width and height
SHEET = "contact_sheet"  # file names without suffix: contact_sheet.png, contact_sheet-2.png, ...


def contact_sheet(
    pictures: Iterable[np.ndarray | None],
    captions: Sequence[Sequence[str]],
    *,
    columns: int = 5,
    side: int = SIDE,
    doubtful: Sequence[bool] | None = None,
    title: str = "",
) -> Image.Image:
    """Arrange pictures in rows, each with its caption below.

    Args:
        pictures: RGB, uint8 ``[h, w, 3]``, of any size; read one at a time and scaled to fit a
            square. None for one that cannot be read.
        captions: lines of each picture; the first is dark, the others grey.
        columns: pictures in a row.
        side: the square's side in pixels.
        doubtful: marks pictures as doubtful; with it, the first line of each caption is bold.
        title: a line above the pictures.

    Returns:
        An RGB picture.
    """
    head = LINE + 8 if title else 0
    height = side + LINE * max(len(lines) for lines in captions) + 10
    columns = min(columns, len(captions))
    rows = -(-len(captions) // columns)
    sheet = Image.new("RGB", (columns * (side + 10) + 10, rows * height + 10 + head), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw_line(draw, (10, 14), title, size=TEXT, width=sheet.width - 20, colour=GREY)
    for k, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        x, y = 10 + k % columns * (side + 10), 10 + head + k // columns * height
        if picture is None:
            draw.rectangle([x, y, x + side - 1, y + side - 1], outline=GREY)
            draw_line(draw, (x + 6, y + 12), "cannot be read", size=TEXT, width=side)
        else:
            small = ImageOps.contain(Image.fromarray(picture), (side, side))
            sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
        if doubtful is not None and doubtful[k]:
            draw_tag(draw, (x + side, y), "doubtful", DARK_ORANGE, TEXT)
        for row, line in enumerate(lines):
            draw_line(
                draw,
                (x, y + side + 2 + row * LINE + LINE / 2),
                line,
                size=TEXT,
                width=side,
                colour=GREY if row else INK,
                bold=doubtful is not None and row == 0,
            )
    return sheet


def contact_sheets(
    pictures: Iterable[np.ndarray | None],
    captions: Sequence[Sequence[str]],
    doubtful: Sequence[bool],
    title: str,
) -> Iterator[Image.Image]:
    """Sheets of at most one screen each; see ``contact_sheet``.

    Captions that leave no room for their picture are cut.
    """
    columns = (SCREEN[0] - 10) // (SIDE + 10)
    room = SCREEN[1] - LINE - 18
    captions = [lines[: (room - SIDE - 10) // LINE] for lines in captions]
    rows = room // (SIDE + LINE * max(len(lines) for lines in captions) + 10)
    remaining, size = iter(pictures), rows * columns
    for start in range(0, len(captions), size):
        part = slice(start, start + size)
        yield contact_sheet(
            islice(remaining, len(captions[part])),
            captions[part],
            columns=columns,
            doubtful=doubtful[part],
            title=page_title(title, start // size, -(-len(captions) // size)),
        )


def page_title(title: str, page: int, pages: int) -> str:
    """A title with the number of the sheet if there are several; pages count from 0."""
    return title if pages == 1 else f"{title}; sheet {page + 1} of {pages}"


def save_sheets(sheets: Iterable[Image.Image], out: Path) -> list[Path]:
    """Write sheets, each whole or not at all; sheets of an earlier call are removed.

    Raises:
        OSError: a sheet cannot be written.
    """
    files = []
    for number, sheet in enumerate(sheets, start=1):
        file = out / (f"{SHEET}.png" if number == 1 else f"{SHEET}-{number}.png")
        with whole_file(file) as partial:
            sheet.save(partial, format="png")
        files.append(file)
    for earlier in out.glob(f"{SHEET}-*.png"):
        if earlier not in files:
            earlier.unlink()
    return files
