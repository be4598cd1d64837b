"""Names of folds: numbers, or the views that they hold out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from product_cls.core.names import nfc, shown
from product_cls.data.faults import listed

ALL = "all"  # in place of a fold: hold out nothing


def view_values(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Views as numbers, which sort by value, if all of them are written as such.

    Others keep their names: `01` is not `1`, and `nan` or `1e3` may be a shop.
    """
    views = column.str.strip()
    known = views[views.notna() & (views != "")]
    if known.str.fullmatch(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?").all():
        return pd.to_numeric(views)
    return column.where(views != "")


def views_of(rows: pd.DataFrame) -> tuple[list[str | float], np.ndarray]:
    """The views that can be held out, sorted, and which rows have one, bool ``[N]``."""
    if "view" not in rows:
        raise ValueError("strategy=view needs a known view for the training pictures.")
    has_view = (rows["view"].notna() & ~rows["view"].isin(["", "-1", -1])).to_numpy()
    return sorted(rows["view"][has_view].unique()), has_view


def view_names(samples: pd.DataFrame, folds: "pd.Series[int]") -> list[str] | None:
    """Names of the folds, if each of them holds out one view.

    Args:
        samples: the sample table.
        folds: from ``make_folds`` or from a file.

    Returns:
        The name of fold k at position k: whole numbers without a decimal point. None if the folds
        are others than those of ``strategy=view``.
    """
    rows = samples[samples["split"] != "test"]
    views, has_view = views_of(rows)
    number = {view: k for k, view in enumerate(views)}
    expected = rows["view"].map(number).where(has_view, -1).to_numpy(np.int64)
    held_out = folds.to_numpy() >= 0
    if not np.array_equal(folds.to_numpy()[held_out], expected[held_out]):
        return None
    return [view_name(view) for view in views]


def view_name(view: str | float) -> str:
    """A view's name, for commands and tables: whole numbers have no decimal point."""
    if isinstance(view, str):
        return view
    return str(int(view)) if float(view).is_integer() else str(view)


def fold_number(
    folds: "pd.Series[int]", fold: int | float | str, names: Sequence[str] | None
) -> int | str:
    """The number of the fold that ``fold`` means.

    A view's name comes first. A number that names no view is a position among the sorted views, but
    only if no view has another position's number as its name: views 0, 30 and 60 are folds 0, 1 and
    2, too, and views 1, 2 and 3 are not.

    Args:
        folds: the fold of each sample.
        fold: as the user types it: a number, the name of a view, or ``all``.
        names: from ``view_names``; None if folds have numbers only.

    Returns:
        A number in ``folds``, or ``all``.

    Raises:
        ValueError: there is no such fold.
    """
    numbers = sorted(int(k) for k in folds.unique() if k >= 0)
    if fold == ALL:
        return ALL
    if names is None:
        if fold in numbers:
            return int(fold)
        raise ValueError(f"fold={shown(fold)} does not exist; allowed: {listed(numbers)}, all.")
    by_name = {nfc(name): k for k, name in enumerate(names) if k in numbers}
    wanted = view_name(fold) if isinstance(fold, float) else nfc(str(fold))
    if wanted in by_name:
        return by_name[wanted]
    unmistakable = all(by_name.get(str(k), k) == k for k in range(len(names)))
    if unmistakable and isinstance(fold, int) and fold in numbers:
        return fold
    raise ValueError(
        f"fold={shown(fold)} does not exist; allowed: {listed(by_name, 20)} (views), all."
    )
