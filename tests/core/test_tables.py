"""CSV files: what is written is what is read."""

import io
from pathlib import Path

import pandas as pd
import pytest

from product_cls.core.names import is_text, nfc, shown
from product_cls.core.tables import csv_text, read_csv_rows, write_csv

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
