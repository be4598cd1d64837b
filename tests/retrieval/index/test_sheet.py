"""The sheet of pictures and their neighbours."""

import time
from pathlib import Path

import numpy as np
from PIL import ImageColor

from product_cls.core.fonts import load_font
from product_cls.display.captions import fit_text
from product_cls.display.contact_sheet import SCREEN
from product_cls.display.style import DARK_ORANGE, GREEN, GREY, VERMILION
from product_cls.retrieval.index.sheet import (
    FRAME,
    SIDE,
    SheetCell,
    neighbour_sheet,
    neighbour_sheets,
)


def test_sheet_marks_right_and_wrong_without_colour(tiny_root: Path, tmp_path: Path) -> None:
    picture = tiny_root / "test" / "3.jpg"
    rows = [
        [
            SheetCell(picture, ("0", "is 0", "3.jpg"), True),
            SheetCell(picture, ("1", "", ""), False),
        ],
        [SheetCell(picture, ("0", "", "3.jpg")), SheetCell(tmp_path / "gone.jpg", ("2", "", ""))],
    ]
    sheet = neighbour_sheet(rows)
    pixels = np.asarray(sheet)

    def edge(colour: str, left: bool, top: bool) -> np.ndarray:
        """Which pixels of a quarter of the sheet have a colour."""
        half = slice(0, sheet.height // 2) if top else slice(sheet.height // 2, None)
        side = slice(0, SIDE + 40) if left else slice(SIDE + 40, None)
        return (pixels[half, side] == ImageColor.getrgb(colour)).all(axis=2)

    # A whole frame, a dashed one of half its pixels, thin ones.
    frame = 4 * FRAME * (SIDE + FRAME)
    right, wrong = edge(GREEN, True, True).sum(), edge(VERMILION, False, True).sum()
    assert right > frame and 0.4 * frame < wrong < 0.8 * frame
    assert not edge(VERMILION, True, True).any() and not edge(GREEN, False, True).any()
    for left in (True, False):
        assert edge(GREY, left, False).sum() > 3 * SIDE
        assert not edge(GREEN, left, False).any() and not edge(VERMILION, left, False).any()


def test_long_captions_keep_both_ends() -> None:
    font = load_font(12, serif=False)
    assert fit_text("train/10/9.jpg", font, 200) == "train/10/9.jpg"
    short = fit_text("train/Arla-Standard-Milk/Arla-Standard-Milk_0123.jpg", font, 120)
    assert font.getlength(short) <= 120
    assert short.startswith("train/") and short.endswith("123.jpg") and "..." in short


def test_very_long_captions_take_no_time() -> None:
    font = load_font(12, serif=False)
    start = time.perf_counter()
    for text in ("x" * 10**6, "가" * 255, "a\r" * 255, "i" * 300):
        assert font.getlength(fit_text(text, font, 120)) <= 120
    assert time.perf_counter() - start < 1
    assert fit_text("a\nb", font, 200) == "a\\nb" and fit_text("abc", font, 1) == "..."


def test_a_sheet_fits_on_a_screen(tiny_root: Path) -> None:
    cell = SheetCell(tiny_root / "test" / "3.jpg", ("0", "is 0", "3.jpg"))
    sheets = list(neighbour_sheets([[cell] * 6] * 9, "9 pictures"))
    assert len(sheets) > 1
    assert all(s.width <= SCREEN[0] and s.height <= SCREEN[1] for s in sheets)


def test_doubtful_answers_are_marked_and_answers_bold(tiny_root: Path) -> None:
    path = tiny_root / "test" / "3.jpg"
    plain, bold, doubtful = (
        np.asarray(neighbour_sheet([[SheetCell(path, ("answer",), None, *marks)]]))
        for marks in ((), (True,), (True, True))
    )
    assert bold.sum() < plain.sum()  # more ink
    assert not (bold == ImageColor.getrgb(DARK_ORANGE)).all(axis=2).any()
    assert (doubtful == ImageColor.getrgb(DARK_ORANGE)).all(axis=2).sum() > 200
