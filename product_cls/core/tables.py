"""The one writer and the one reader of the project's CSV files."""

import csv
import io
import math
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from product_cls.core.files import write_bytes_whole

CsvStyle = Literal["plain", "excel"]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(
    file: Path, table: pd.DataFrame, *, style: CsvStyle = "plain", comment: str | None = None
) -> None:
    """Write a table as CSV (UTF-8, lines end in ``\\n``), whole or not at all.

    Args:
        file: the file; missing folders are created.
        table: its columns are written, its index is not.
        style: see ``csv_text``.
        comment: a first line, such as ``# strategy=stratified``.
    """
    text = csv_text(table, style=style)
    if comment is not None:
        text = f"{comment}\n{text}"
    encoding = "utf-8-sig" if style == "excel" else "utf-8"
    write_bytes_whole(file, text.encode(encoding))


def csv_text(table: pd.DataFrame, *, style: CsvStyle = "plain") -> str:
    """A table as CSV.

    Cells with a carriage return are quoted, too; Python's and pandas' writers leave them bare, and
    readers then see the end of a line.

    Args:
        table: its columns are written, its index is not; missing values are empty cells.
        style: ``plain`` keeps each text as it is. ``excel`` starts a text that a spreadsheet would
            change with a tab: numbers with leading zeros or many digits, and formulas.

    Raises:
        ValueError: an unknown style.
    """
    if style not in get_args(CsvStyle):
        raise ValueError(f"csv={style}; allowed: {', '.join(get_args(CsvStyle))}.")
    columns = [table.iloc[:, k].tolist() for k in range(table.shape[1])]
    rows = [list(table.columns), *map(list, zip(*columns, strict=True))]
    return "".join(",".join(_cell(value, style) for value in row) + "\n" for row in rows)


def _cell(value: Any, style: CsvStyle) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value)
    if style == "excel" and isinstance(value, str) and _changed_by_spreadsheets(text):
        text = f"\t{text}"
    if any(character in text for character in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text


def _changed_by_spreadsheets(text: str) -> bool:
    """Whether a spreadsheet would run a text as a formula or turn it into another number."""
    if text.startswith(FORMULA_STARTS):
        return True
    return text[:1].isdigit() and (len(text) > 11 or (text[0] == "0" and len(text) > 1))


def read_csv_rows(text: str) -> list[list[str]]:
    """The cells of a CSV that ``csv_text`` wrote, all as text; a carriage return stays one."""
    return list(csv.reader(io.StringIO(text, newline="")))
