"""CSV files: what is written is what is read."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from product_cls.core.names import is_text, nfc, shown
from product_cls.core.tables import csv_text, formula_note, read_csv_rows, write_csv

AWKWARD = ["plain", "a\rb", "a\nb", "a\r\nb", 'say "hi"', "a,b", " a ", "", "007", "=1+1", "NA"]


def test_every_text_survives_both_readers() -> None:
    text = csv_text(pd.DataFrame({"name": AWKWARD, "count": range(len(AWKWARD))}))
    assert [row[0] for row in read_csv_rows(text)] == ["name", *AWKWARD]
    table = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    assert table["name"].tolist() == AWKWARD


def test_numbers_are_written_as_pandas_writes_them() -> None:
    table = pd.DataFrame({"a": [0.1, float("nan"), 1e-7], "b": [1, 2, 3], "c": [True, False, None]})
    assert csv_text(table) == table.to_csv(index=False)


def test_excel_gets_a_mark_and_no_formula(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({"name": ["=1+1", "007", "콜라"]}), style="excel")
    content = (tmp_path / "t.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.decode("utf-8-sig").split("\n")[1:4] == ["\t=1+1", "\t007", "콜라"]


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="csv=xls; allowed: plain, excel"):
        csv_text(pd.DataFrame(), style="xls")  # type: ignore[arg-type]


def test_names() -> None:
    assert nfc("\u1103\u1161") == "\ub2e4"
    assert is_text("가") and not is_text("a\udcb0")
    assert shown("a\udcb0\rb") == "a\\udcb0\\rb"


def test_float32_is_written_as_pandas_writes_it() -> None:
    table = pd.DataFrame({"score": np.array([0.9, 1e-7, np.nan, 1234567.9], np.float32)})
    assert csv_text(table) == table.to_csv(index=False)


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", " =1", "\t=1", "\r=1", "=cmd|' /C calc'!A0"),
        *("007", "880105601234", "8801056012345", "1e10", "1-2", "3/4", "TRUE", "MAR1", "1,234"),
        *("10:30", "1.0", "2024-01-01", "100%"),
    ],
)
def test_spreadsheets_show_text_as_text(text: str) -> None:
    """As LibreOffice 7.4 shows them; without the tab it changes or runs most of them."""
    table = pd.DataFrame({text: [text]})
    assert read_csv_rows(csv_text(table, style="excel")) == [[f"\t{text}"], [f"\t{text}"]]
    assert read_csv_rows(csv_text(table)) == [[text], [text]]


def test_texts_that_spreadsheets_keep_get_no_tab() -> None:
    table = pd.DataFrame({"name": ["콜라", "3.jpg", "12", "0", "a=b", "x-1"], "score": -0.5})
    assert csv_text(table, style="excel") == csv_text(table)


def test_formulas_are_named_unless_they_are_marked() -> None:
    table = pd.DataFrame({"a": ["x", "=1\r+1"], "@b": [1, 2]})
    note = formula_note([table], "plain")
    assert note is not None and "2 of these names" in note
    assert "'=1\\r+1'" in note and "csv=excel" in note
    assert formula_note([table], "excel") is None
    assert formula_note([table.iloc[:1, :1]], "plain") is None


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({"name": ["a\udcb0", "b"]}))
    assert (tmp_path / "t.csv").read_text() == "name\na\\udcb0\nb\n"
