"""Made pictures of letters: layout, determinism, resuming, and what they show."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from product_cls.core.errors import UserError
from product_cls.data.label_table import label_columns, read_label_table
from product_cls.data.letters import make_letters, read_letters
from product_cls.data.letters.__main__ import main as letters_main
from product_cls.data.letters.glyphs import ALPHABET, FONTS, WEIGHTS, glyph
from product_cls.data.letters.picture import Style, draw_letters, letters_of

SMALL: dict[str, Any] = {"pictures": 12, "test": 4, "size": 32, "seed": 3}
STYLE = Style(size=128, seed=0, fewest=10, most=14, noise=0.0, fonts=FONTS, turn=30.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("letters") / "set"
    return make_letters(out, **SMALL, processes=1, progress=False)


def test_layout_is_the_contests(made: Path) -> None:
    tables = {"train.csv", "sample_submission.csv", "test_answers.csv"}
    assert {p.name for p in made.iterdir()} == {"train", "test", "letters.json", *tables}
    assert {p.name for p in (made / "test").iterdir()} == {f"{n:05d}.png" for n in range(12, 16)}
    with (made / "sample_submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", *ALPHABET]
    assert [row["index"] for row in rows] == ["12", "13", "14", "15"]
    assert {row[letter] for row in rows for letter in ALPHABET} == {"0"}
    table = read_label_table(made, test_file="sample_submission.csv", labels=list(ALPHABET))
    assert len(table) == 16 and label_columns(table) == list(ALPHABET)
    learned = table[table["split"] == "train"][list(ALPHABET)]
    assert learned.sum(axis=1).between(10, 14).all()
    answered = read_letters(made, **SMALL)
    assert answered[list(ALPHABET)].sum(axis=1).between(10, 14).all()
    assert cv2.imread(str(made / "train" / "00000.png")).shape == (32, 32, 3)


def test_same_bytes_with_two_processes_and_after_an_interruption(
    made: Path, tmp_path: Path
) -> None:
    again = make_letters(tmp_path / "set", **SMALL, processes=2, progress=False)
    assert contents(again) == contents(made)
    (again / "train" / "00003.png").unlink()
    (again / "test" / "00012.png.1.tmp").write_bytes(b"half a picture")
    (again / "letters.json").rename(again / "letters-unfinished.json")
    kept = {p: p.stat().st_mtime_ns for p in again.rglob("*.png")}
    make_letters(again, **SMALL, processes=1, progress=False)
    assert contents(again) == contents(made)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_other_seeds_and_parameters(made: Path, tmp_path: Path) -> None:
    other = make_letters(tmp_path / "set", **SMALL | {"seed": 4}, processes=1, progress=False)
    assert contents(other)["train/00000.png"] != contents(made)["train/00000.png"]
    assert contents(other)["train.csv"] != contents(made)["train.csv"]
    with pytest.raises(UserError, match=r"set of made letters with other parameters .*seed=3"):
        make_letters(made, **SMALL | {"seed": 4}, progress=False)


def test_letters_are_drawn_with_little_favour() -> None:
    shown = [letters_of(STYLE, "train", n) for n in range(400)]
    counts = np.array([sum(letter in row for row in shown) for letter in ALPHABET])
    assert {len(row) for row in shown} == {10, 11, 12, 13, 14}
    assert all(len(set(row)) == len(row) for row in shown)
    assert counts.min() > 140 and counts.max() < 230  # 12 of 26 of 400 is 185


def test_every_letter_of_every_font_is_inked_and_different() -> None:
    for font in range(FONTS):
        masks = [glyph(letter, font, 0) for letter in ALPHABET]
        assert all(400 < mask.sum() / 255 < 6000 for mask in masks), font
        assert len({mask.tobytes() for mask in masks}) == 26, font
        heavier = glyph("e", font, len(WEIGHTS) - 1)
        assert heavier.sum() > glyph("e", font, 0).sum()


def test_letters_stand_out_from_what_is_behind_them() -> None:
    """Without noise, a picture of letters is the one without them but for what they cover."""
    rows = []
    for n in range(20):
        picture = draw_letters(STYLE, "train", n).astype(float)
        ground = np.median(picture)
        rows.append((np.abs(picture - ground) > 50).mean())
    # 12 letters of a sixteenth each, half as high as their cell's diagonal, a third of it ink.
    assert 0.05 < np.mean(rows) < 0.4


def test_noise_and_size() -> None:
    noisy = Style(**{**STYLE.__dict__, "noise": 1.0})
    quiet, loud = (draw_letters(style, "train", 0) for style in (STYLE, noisy))
    rough = [np.abs(np.diff(p.astype(float), axis=1)).mean() for p in (quiet, loud)]
    assert rough[1] > 2 * rough[0]
    assert draw_letters(Style(**{**STYLE.__dict__, "size": 300}), "test", 1).shape == (300, 300)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"pictures": 1}, "pictures=1; .* from 2 to 99999"),
        ({"test": -1}, "test=-1"),
        ({"size": 31}, "size=31; .* from 32 to 1024"),
        ({"fewest": 0}, "fewest=0; .* from 1 to 26"),
        ({"most": 27}, "most=27; .* from 1 to 26"),
        ({"fewest": 15}, "fewest=15 is above most=14"),
        ({"noise": 3}, "noise=3; .* a number from 0 to 2"),
        ({"fonts": 16}, "fonts=16; .* from 1 to 15"),
        ({"turn": 100.0}, "turn=100.0; .* from 0 to 90"),
        ({"processes": 0}, "processes=0"),
        ({"test": 99_999}, "test=99999; allowed: up to"),
    ],
)
def test_argument_out_of_range(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_letters(tmp_path / "set", **{**SMALL, **wrong}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_command(tmp_path: Path, run_command: Any) -> None:
    words = ("pictures=2", "test=1", "size=32", "processes=1", f"out={tmp_path}/set")
    status, output, errors = run_command(letters_main)(*words)
    assert status == 0, errors
    assert "2 training pictures, 1 test pictures" in output
    assert (tmp_path / "set" / "train" / "00001.png").is_file()


def test_making_needs_no_torch() -> None:
    code = "import sys, product_cls.data.letters; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
