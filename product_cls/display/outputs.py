"""What commands print and write about names that users chose."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from product_cls.core.errors import UserError, reason
from product_cls.core.names import shown


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Around the writing of results: a full disk, or a folder without permission, is one sentence.

    Raises:
        UserError: something cannot be written.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or reason(error)
        raise UserError(
            f"The results cannot be written to {folder}: {why}; files that are there are whole."
        ) from None


def first_rows(table: pd.DataFrame, count: int = 10) -> str:
    """The first rows of a table for the screen; line breaks in names are escaped."""
    return table.head(count).map(_printable).rename(columns=shown).to_string(index=False)


def _printable(value: object) -> object:
    return shown(value) if isinstance(value, str) else value


def file_list(files: Sequence[Path]) -> str:
    """Names of files; of many, the first and the last."""
    names = [str(file) for file in files]
    return ", ".join(names if len(names) <= 4 else [*names[:3], "...", names[-1]])
