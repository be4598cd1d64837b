"""Generate whole sets of letter pictures: in parallel, resumable, each set only once."""

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from product_cls.core.cpu_count import usable_cores
from product_cls.core.files import write_bytes_whole
from product_cls.data.letters.glyphs import ALPHABET, FONTS, require_fonts
from product_cls.data.letters.picture import PAINTER, Style, draw_letters, letters_of
from product_cls.data.synthetic_pool import make_all
from product_cls.data.synthetic_sets import SetKind, check_common, in_range, make_once

if TYPE_CHECKING:
    import pandas as pd

KIND = SetKind("made letters", "letters.json", "letters-unfinished.json")
TASK = 256  # pictures per work item of a process
Picture = tuple[str, int, str]  # split, number, file name


def make_letters(
    out: str | Path,
    *,
    pictures: int = 5000,
    test: int = 1000,
    size: int = 256,
    seed: int = 0,
    fewest: int = 10,
    most: int = 14,
    noise: float = 1.0,
    fonts: int = FONTS,
    turn: float = 30.0,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Generate letter pictures in the contest's layout, unless ``out`` already holds them.

    Writes grey ``train/<number>.png`` and ``test/<number>.png`` (test numbers continue after the
    training numbers), ``train.csv``, ``sample_submission.csv`` and ``test_answers.csv``
    (``index,a,...,z``, 0 or 1). The bytes depend only on the arguments (and on the versions of
    Pillow, OpenCV, NumPy and the fonts), not on ``processes``. An interrupted call resumes. If
    several calls run at once, one generates the pictures and the others wait.

    Args:
        pictures, test: number of training and test pictures, 2 to 99,999 together.
        size: side of the square pictures in pixels, 32 to 1024.
        seed: selects the set; 0 or more.
        fewest, most: number of different letters per picture, 1 to 26.
        noise: strength of noise and clutter, 0 to 2.
        fonts: number of fonts, 1 to 15; each comes in three weights.
        turn: largest rotation of a letter, 0 to 90 degrees.
        processes: worker processes; None uses one per CPU available to this process.
        progress: show a progress bar.

    Returns:
        ``out``.

    Raises:
        ValueError: an argument is out of range.
        UserError: the folder holds something else or is not writable, or a font is not installed.
    """
    out = Path(out).expanduser().absolute()
    in_range("pictures", pictures, 2, 99_999)
    in_range("test", test, 0, 99_999)
    if pictures + test > 99_999:
        raise ValueError(f"test={test}; allowed: up to {99_999 - pictures}, for 99999 in all.")
    check_common(size, seed, processes)
    in_range("fewest", fewest, 1, len(ALPHABET))
    in_range("most", most, 1, len(ALPHABET))
    in_range("noise", noise, 0, 2, whole=False)
    in_range("fonts", fonts, 1, FONTS)
    in_range("turn", turn, 0, 90, whole=False)
    if fewest > most:
        raise ValueError(f"fewest={fewest} is above most={most}; allowed: most or less.")
    style = Style(size, seed, fewest, most, float(noise), fonts, float(turn))
    parameters = {"painter": PAINTER, "pictures": pictures, "test": test, **asdict(style)}

    def fill() -> None:
        listed = [("train", k, f"train/{k:05d}.png") for k in range(pictures)]
        listed += [("test", k, f"test/{pictures + k:05d}.png") for k in range(test)]
        for split in ("train", "test"):
            (out / split).mkdir(exist_ok=True)
        _write_tables(out, style, listed)
        missing = [picture for picture in listed if not (out / picture[2]).exists()]
        each = max(min(TASK, -(-len(missing) // (processes or usable_cores()))), 1)
        make_all(
            _make,
            [(out, style, missing[k : k + each]) for k in range(0, len(missing), each)],
            out=out,
            total=len(listed),
            missing=len(missing),
            processes=processes or usable_cores(),
            progress=progress,
        )

    make_once(out, KIND, parameters, require=require_fonts, fill=fill)
    return out


def _make(out: Path, style: Style, pictures: list[Picture]) -> Iterator[int]:
    for split, number, name in pictures:
        # Noise barely compresses, so a higher level costs time for nothing.
        _, encoded = cv2.imencode(
            ".png", draw_letters(style, split, number), (cv2.IMWRITE_PNG_COMPRESSION, 1)
        )
        write_bytes_whole(out / name, encoded.tobytes())
        yield 1


def _write_tables(out: Path, style: Style, pictures: list[Picture]) -> None:
    tables: dict[str, list[list[object]]] = {
        name: [["index", *ALPHABET]]
        for name in ("train.csv", "sample_submission.csv", "test_answers.csv")
    }
    for split, number, name in pictures:
        index, shown = int(Path(name).stem), letters_of(style, split, number)
        row: list[object] = [index, *(int(letter in shown) for letter in ALPHABET)]
        tables["train.csv" if split == "train" else "test_answers.csv"].append(row)
        if split == "test":
            tables["sample_submission.csv"].append([index, *(0 for _ in ALPHABET)])
    for name, rows in tables.items():
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def read_letters(root: str | Path, **arguments: Any) -> "pd.DataFrame":
    """Sample table of a letters set; generates the set first if it is missing.

    Arguments and errors are those of ``make_letters``.
    """
    # Imported here: worker processes import this module and do not need pandas.
    from product_cls.data.label_table import read_label_table

    make_letters(root, **arguments)
    if arguments.get("test") == 0:
        return read_label_table(root)
    return read_label_table(
        root, test_file="sample_submission.csv", answers_file="test_answers.csv"
    )
