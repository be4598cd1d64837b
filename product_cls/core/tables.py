"""The one writer and the one reader of the project's CSV files."""

import csv
import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import product_cls.core.text_columns  # noqa: F401
from product_cls.core.csv_style import check_style
from product_cls.core.files import write_bytes_whole
from product_cls.core.names import shown

# The wide forms are typed on East Asian keyboards, and run as the narrow ones do.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
# Digits with what numbers, dates and times have around them, or words that are read as such.
NUMERIC = re.compile(
    r"[.,$€£¥₩(]?\d[\d.,:/\s%€)-]*(e[+-]?\d+)?( ?[ap]m)?"
    r"|(\d+[-/. ])?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/. ]?\d*"
    r"|true|false|nan|inf",
    re.IGNORECASE,
)
UNCHANGED = re.compile(r"0|[1-9]\d{0,10}")  # numbers that a spreadsheet shows as they are


def write_csv(
    file: Path, table: pd.DataFrame, *, style: str = "plain", comment: str | None = None
) -> None:
    """Write a table as CSV (UTF-8, lines end in ``\\n``), whole or not at all.

    Args:
        file: the file; missing folders are created.
        table: its columns are written, its index is not.
        style: see ``csv_text``.
        comment: a first line, such as ``# strategy=stratified``.

    Raises:
        UserError: an unknown style.
        OSError: the file cannot be written.
    """
    write_bytes_whole(file, csv_bytes(table, style=style, comment=comment))


def csv_bytes(table: pd.DataFrame, *, style: str = "plain", comment: str | None = None) -> bytes:
    """The content of the file that ``write_csv`` writes.

    Bytes of file names that are not UTF-8 are escaped (``\\udcb0``), so that any program can read
    the file.
    """
    text = csv_text(table, style=style)
    if comment is not None:
        text = f"{comment}\n{text}"
    encoding = "utf-8-sig" if style == "excel" else "utf-8"
    return text.encode(encoding, errors="backslashreplace")


def csv_text(table: pd.DataFrame, *, style: str = "plain") -> str:
    """A table as CSV.

    Cells with a carriage return are quoted, too; Python's and pandas' writers leave them bare, and
    readers then see the end of a line.

    Args:
        table: its columns are written, its index is not; missing values are empty cells.
        style: ``plain`` keeps each text as it is. ``excel`` starts a text that a spreadsheet would
            change with a tab: formulas, and what would become a number or a date.

    Raises:
        UserError: an unknown style.
    """
    check_style(style)
    # `tolist` would turn float32 into float64, and write .9 as .8999999761581421.
    columns = [list(table.iloc[:, k].to_numpy()) for k in range(table.shape[1])]
    rows = [list(table.columns), *map(list, zip(*columns, strict=True))]
    lines = (",".join(_cell(value, style) for value in row) for row in rows)
    # Readers skip an empty line, which a single empty cell would be.
    return "".join((line or '""') + "\n" for line in lines)


def _cell(value: Any, style: str) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float | np.floating) and math.isnan(value):
        return ""
    text = str(value)
    if style == "excel" and isinstance(value, str) and _changed_by_spreadsheets(text):
        text = f"\t{text}"
    if any(character in text for character in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text


def _changed_by_spreadsheets(text: str) -> bool:
    """Whether a spreadsheet would run a text as a formula or turn it into a number or a date."""
    if FORMULA.match(text):
        return True
    return NUMERIC.fullmatch(text.strip()) is not None and not UNCHANGED.fullmatch(text)


def formula_note(tables: Iterable[pd.DataFrame], style: str) -> str | None:
    """A sentence about texts that a spreadsheet would run as formulas; None if there are none.

    Args:
        tables: as they are written; headers count, too.
        style: in which they are written; ``excel`` marks such texts, so that there are none.
    """
    if style == "excel":
        return None
    found = dict.fromkeys(
        text
        for table in tables
        for column in table
        for text in (column, *table[column].unique())
        if isinstance(text, str) and FORMULA.match(text)
    )
    if not found:
        return None
    first = next(iter(found))
    return (
        f"a spreadsheet would run {len(found)} of these names as formulas, the first is "
        f"'{shown(first)}'; csv=excel writes tables that it shows as text."
    )


def read_csv_rows(text: str) -> list[list[str]]:
    """The cells of a CSV that ``csv_text`` wrote, all as text; a carriage return stays one.

    Raises:
        ValueError: it is not a CSV.
    """
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None
