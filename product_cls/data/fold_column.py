"""A column of folds in a table that a user brings."""

import re
from pathlib import Path

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import shown

FOLD = re.compile(r"(-1|[0-9]{1,9})(\.0*)?")  # tables that had empty cells hold `1.0`


def given_folds(cells: "pd.Series[str]", source: Path, column: str) -> "pd.Series[int]":
    """The folds of a column, int64; -1 where it is empty.

    Args:
        cells: as text.
        source, column: the table and the column's name, for messages.

    Raises:
        UserError: a cell holds something else than a whole number, -1 or more.
    """
    folds = cells.str.strip()
    folds = folds.where(folds != "").fillna("-1")
    wrong = ~folds.str.fullmatch(FOLD)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{source}: column '{column}' holds the fold '{shown(folds.iloc[row])}' (row "
            f"{row + 2}); allowed: 0, 1, ..., or -1 or empty for a picture that is always learned "
            f"from (names of conditions are views: data.view_column={column} "
            f"folds.strategy=view)."
        )
    return folds.str.partition(".")[0].astype("int64")
