"""Checked access to the folders, tables and picture files of a data set, for readers."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.errors import UserError, reason
from product_cls.data.pictures import FORMATS
from product_cls.data.samples import natural_key

SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}


def existing_folder(root: str | Path, expected: str, *, argument: str = "root") -> Path:
    """A reader's argument as the path of an existing folder.

    Args:
        root: the folder; ``~`` is expanded.
        expected: what the folder should hold, for the message.
        argument: name of the reader's argument.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{argument}={root}: there is no such folder; expected {expected}.")
    return folder


def require_folder(folder: Path, content: str) -> Path:
    """Check that a folder inside a data set exists.

    Args:
        folder: is returned.
        content: what the folder should hold, for the message.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} ({content}).")
    return folder


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below ``folder``, sorted by path; hidden files and folders are skipped."""
    return sorted(
        (
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        ),
        # The full name decides between 1.jpg and 1.png: folds must not depend on the file system.
        key=lambda path: [natural_key(part) for part in (*path.parent.parts, path.stem, path.name)],
    )


def read_table(file: Path, columns: Collection[str], **options: Any) -> pd.DataFrame:
    """Read a CSV; only an empty cell is a missing value, as 'NA' and 'None' may be class names.

    Args:
        file: the CSV.
        columns: columns that it must have.
        options: further arguments of ``pandas.read_csv``.

    Raises:
        UserError: the file cannot be read, is empty, or lacks one of ``columns``.
    """
    try:
        table = pd.read_csv(file, keep_default_na=False, na_values=[""], **options)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{file} cannot be read as a CSV: {reason(error)}.") from None
    if table.empty:
        raise UserError(f"{file} has no rows.")
    if not isinstance(table.index, pd.RangeIndex):  # pandas turns a surplus field into an index
        raise UserError(f"{file} cannot be read as a CSV: rows with more fields than columns.")
    for column in columns:
        if column not in table:
            raise UserError(f"{file} has no column '{column}'; it has {', '.join(table)}.")
    return table


def require_files(paths: "pd.Series[str]", source: Path) -> None:
    """Check that all files exist.

    Args:
        paths: the files.
        source: the file that names them, for the message.

    Raises:
        UserError: a file does not exist; the message names the first.
    """
    absent = [path for path in paths if not Path(path).is_file()]
    if absent:
        raise UserError(
            f"{source} names {len(absent)} pictures that do not exist, the first is {absent[0]}."
        )
