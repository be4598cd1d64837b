"""Whether classes are large enough to be held out in part."""

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.data.faults import listed
from product_cls.data.samples import Strata, combined_labels, natural_key, strata_columns


def small_classes(
    rows: pd.DataFrame, label: Strata, least: int | None, *, whole_groups: bool = False
) -> tuple[np.ndarray, list[str]]:
    """The pictures of classes that are too small to hold any of them out.

    Args:
        rows: the training part of the sample table, N rows.
        label: the label columns. With 0/1 columns, a class is either value of a label.
        least: the fewest pictures of a class that is held out; None for no limit.
        whole_groups: also the other pictures of their groups, because a group stays together.

    Returns:
        bool ``[N]``, and the names of the classes, sorted.

    Raises:
        ValueError: ``least`` is out of range.
    """
    if least is not None and least < 2:
        raise ValueError(f"min_per_class={least}; allowed: 2 or more, or null.")
    small, names = np.zeros(len(rows), dtype=bool), set()
    while least is not None:
        before = small.sum()
        for column in strata_columns(label):
            values = rows[column][~small].dropna().astype(str)
            counts = values.value_counts()
            few = counts.index[counts < least]
            names |= {str(name) if isinstance(label, str) else f"{column}={name}" for name in few}
            small |= rows[column].astype(str).isin(few).to_numpy() & rows[column].notna().to_numpy()
        if whole_groups and "group" in rows:
            small |= rows["group"].isin(rows["group"][small]).to_numpy()
        if small.sum() == before:  # the others have kept enough pictures
            break
    return small, sorted(names, key=natural_key)


def check_label_sizes(targets: np.ndarray, n_splits: int, labels: list[str]) -> None:
    """Check that every 0/1 label has ``n_splits`` pictures with it and as many without it."""
    with_label = targets.sum(axis=0)
    fewest = np.minimum(with_label, len(targets) - with_label)
    rarest = int(fewest.argmin())
    if fewest[rarest] < n_splits:
        preposition = "with" if with_label[rarest] == fewest[rarest] else "without"
        raise ValueError(
            f"n_splits={n_splits} exceeds the {int(fewest[rarest])} pictures {preposition} the "
            f"label '{labels[rarest]}'; lower it, add pictures, or leave the label out of the task."
        )


def check_groups(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that every fold gets a group, and that no class is in a single group."""
    if "group" not in rows or rows["group"].isna().any():
        raise ValueError("strategy=stratified_group needs a group for every picture.")
    if (groups := rows["group"].nunique()) < n_splits:
        raise ValueError(f"n_splits={n_splits} exceeds the {groups} groups; lower it.")
    for column in strata_columns(label):
        labels = rows[column][rows[column].notna()].astype(str)
        spread = rows["group"].groupby(labels).nunique()
        if spread.min() < 2:
            count = (labels == spread.idxmin()).sum()
            raise UserError(
                f"All pictures of the class '{shown(spread.idxmin())}' ({column}) are in one "
                f"group; holding it out would leave none of the class to learn from. Add groups, "
                f"or set folds.min_per_class={count + 1}, which always learns from such classes."
            )
    _check_enough(rows, n_splits, label)


def check_class_sizes(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that every class has pictures to learn from and to hold out."""
    if not isinstance(label, str):
        for column in label:
            counts = rows[column][rows[column].notna()].astype(str).value_counts()
            if counts.min() < 2:
                raise UserError(
                    f"The class '{shown(counts.idxmin())}' ({column}) has a single picture; at "
                    f"least 2 are needed, one to learn from and one to hold out. Add pictures, or "
                    f"set folds.min_per_class=2, which always learns from such classes."
                )
    _check_enough(rows, n_splits, label)


def _check_enough(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that each class, or the largest combination of labels, has ``n_splits`` pictures.

    Rare combinations of labels need not be in every fold.
    """
    counts = combined_labels(rows, label).value_counts()
    if (limit := counts.min() if isinstance(label, str) else counts.max()) < n_splits:
        small = sorted(counts.index[counts < n_splits], key=natural_key)
        lower = f"lower it to at most {limit}, " if limit > 1 else ""
        single = sorted(counts.index[counts == 1], key=natural_key)
        alone = f" ({len(single)} have a single picture: {listed(single)})" if single else ""
        raise ValueError(
            f"n_splits={n_splits} exceeds the pictures of {len(small)} classes, the smallest is "
            f"'{shown(counts.idxmin())}' with {counts.min()}{alone}; {lower}add pictures, or set "
            f"min_per_class={n_splits}, which always learns from smaller classes."
        )
