"""Reads the CSV files that users bring, whatever their encoding and separator."""

import codecs
import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

import product_cls.core.text_columns  # noqa: F401
from product_cls.core.arguments import as_typed
from product_cls.core.errors import UserError, reason
from product_cls.core.names import nfc, shown
from product_cls.data.faults import listed

log = logging.getLogger(__name__)

MOST_COLUMNS = 100_000  # a longer first line is no row of names, and pandas would take minutes
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .xls


def read_table(
    file: Path,
    columns: Collection[str],
    *,
    encoding: str | None = None,
    separator: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Read a CSV; only an empty cell is a missing value, as 'NA' and 'None' may be class names.

    All text is in Unicode NFC, and spaces around the names of columns are removed. Columns without
    a name and without a value, which spreadsheets write, are left out.

    Args:
        file: the CSV.
        columns: columns that it must have.
        encoding: a name that Python knows; None recognises UTF-8, UTF-16 and CP949 (Korean).
        separator: one ASCII character, or one of ``SEPARATORS``; None takes the one that gives the
            ``columns``.
        options: further arguments of ``pandas.read_csv``.

    Raises:
        ValueError: an unknown encoding or separator, or an encoding that the file does not have.
        UserError: the file cannot be read, is empty, has two columns of one name, or lacks one of
            ``columns``.
    """
    if separator is not None:
        separator = SEPARATORS.get(separator, separator)
        if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
            raise ValueError(
                f"separator={shown(separator)}; allowed: one ASCII character, "
                f"{', '.join(SEPARATORS)}, or null."
            )
    text = nfc(read_text(file, encoding))
    if text[:4] == "sep=" and text[5:6] in ("\r", "\n"):  # Excel's way to name the separator
        separator, text = separator or text[4], text[5:].lstrip("\r\n")
    columns = [nfc(column) for column in columns]
    mark = separator or _separator(text, columns)
    if text.lstrip("\r\n").partition("\n")[0].count(mark) > MOST_COLUMNS:
        raise UserError(f"{shown(file)} has more than {MOST_COLUMNS} columns.")
    try:
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=mark,
            keep_default_na=False,
            na_values=[""],
            **options,
        )
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{shown(file)} cannot be read as a CSV: {reason(error)}.") from None
    if table.empty:
        raise UserError(f"{shown(file)} has no rows.")
    if not isinstance(table.index, pd.RangeIndex):  # pandas turns a surplus field into an index
        raise UserError(
            f"{shown(file)} cannot be read as a CSV: rows with more fields than columns."
        )
    if "names" not in options:  # pandas would call the second one `NAME.1`
        header = Counter(filter(None, map(str.strip, _header(text, mark))))
        if twice := [name for name, count in header.items() if count > 1]:
            raise UserError(f"{shown(file)} has several columns '{shown(twice[0])}'; rename them.")
        nameless = [str(c) for c in table if re.fullmatch(r"Unnamed: \d+", str(c))]
        table = table.drop(columns=[c for c in nameless if table[c].isna().all()])
    names = [str(column) for column in table]
    table = table.rename(columns={n: n.strip() for n in names if n.strip() not in names})
    if missing := [column for column in columns if column not in table]:
        raise UserError(
            f"{shown(file)} has no column {' and no column '.join(map(repr, missing))}; it has "
            f"{listed(list(table), 20)}."
        )
    return table


def read_text(file: Path, encoding: str | None = None) -> str:
    """The text of a file, without a byte order mark.

    Logs a warning if it is taken for CP949.

    Args:
        file: the file.
        encoding: see ``read_table``.

    Raises:
        ValueError: an unknown encoding, or one that the file does not have.
        UserError: the file cannot be read, or is no text.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(file)} cannot be read: {error.strerror}.") from None
    if data.startswith(WORKBOOKS):
        raise UserError(f"{shown(file)} is a workbook or an archive; save it as CSV (UTF-8).")
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except LookupError:
            allowed = "a name that Python knows, such as utf-8, cp949, utf-16 or cp1252; or null"
            raise ValueError(f"encoding={encoding}; allowed: {allowed}.") from None
        except ValueError as error:
            raise ValueError(
                f"encoding={encoding}: {shown(file)} cannot be read with it: {reason(error)}."
            ) from None
    for name in _plausible_encodings(data):
        try:
            text = data.decode(name)
        except ValueError:
            continue
        if "\0" in text or (name == "cp949" and not _is_korean(text)):
            continue
        if name == "cp949":
            log.warning(
                "%s is not UTF-8 and is read as CP949 (Korean); save it as UTF-8 if names look "
                "wrong.",
                shown(file),
            )
        return text
    raise ValueError(
        f"encoding={as_typed(None)}: {shown(file)} is neither UTF-8 nor UTF-16 nor clearly CP949; "
        f"save it as UTF-8, or set its encoding, such as cp949, cp1252, shift_jis or gb18030."
    )


def _plausible_encodings(data: bytes) -> list[str]:
    for mark, name in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return [name]
    # In UTF-16, separators, digits and ends of lines have a zero byte, all on the same side.
    start = data[:4096]
    zeros = {"utf-16-be": start[::2].count(0), "utf-16-le": start[1::2].count(0)}
    few, (name, many) = min(zeros.values()), max(zeros.items(), key=lambda item: item[1])
    if many > len(start) // 20 and few < many // 10:
        return [name]
    return ["utf-8", "cp949"]


def _is_korean(text: str) -> bool:
    """Whether text decoded as CP949 looks like Korean: nearly all is ASCII or common Hangul.

    Western and Japanese text has bytes that CP949 decodes as well, to rare syllables.
    """
    others = [character for character in text if not character.isascii()]
    # EUC-KR holds the 2,350 common syllables in two bytes, and spells others in eight.
    common = sum("가" <= c <= "힣" and len(c.encode("euc_kr", "ignore")) == 2 for c in others)
    return common >= 0.8 * len(others)


def _separator(text: str, columns: Collection[str]) -> str:
    """The separator with which the header has the columns; the most frequent one if none does."""
    for mark in SEPARATORS.values():
        names = _header(text, mark)
        # A single column with the wanted name has no separator at all.
        if columns and set(columns) <= {*names, *map(str.strip, names)}:
            return mark
    header = text.lstrip("\r\n").partition("\n")[0]
    return "," if "," in header else max(SEPARATORS.values(), key=header.count)


def _header(text: str, mark: str) -> list[str]:
    """The names of the columns; empty if they cannot be told."""
    line = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:
        return []
