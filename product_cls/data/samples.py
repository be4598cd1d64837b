"""The sample table: one row a picture.

Columns: ``id`` (unique, stable: a path relative to the root), ``path`` (where the picture is),
``split`` (``train``; ``val`` where the data set itself names a validation part; ``test``), one or
more label columns (missing where unknown) and where known ``view`` (the condition that shifts, such
as the camera's pitch in degrees) and ``group`` (samples that must share a fold, such as a person).

``readers.py`` makes it from a layout on disk.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.data.pictures import place_in_shard
from product_cls.data.stratify import even_order

SPLITS = ("train", "val", "test")

# What is stratified by: the classes of a column; the combinations of a tuple of columns; or a list
# of columns of 0 and 1, each of which keeps its share.
Strata = str | tuple[str, ...] | list[str]


def natural_key(text: str) -> tuple[int, int, str]:
    """Sort key: whole numbers by value, before words by letter ('2' < '10' < 'a')."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def check_samples(
    table: pd.DataFrame, source: str | Path, *, label: str | None = "label"
) -> pd.DataFrame:
    """Refuse a table that nothing sensible can be trained on; return it with a clean index.

    Args:
        table: with at least ``id``, ``path``, ``split`` and the column ``label``.
        source: what was read, for messages.
        label: the label column that every row to learn from must have; None where there is no such
            column, and the task has to see which labels there are.

    Raises:
        UserError: an id twice, an unknown split, no training picture, a training picture without
            label, one class only, or a class with a single training picture.
    """
    if twice := sorted(table["id"][table["id"].duplicated()].unique()):
        raise UserError(f"{source}: {len(twice)} ids stand twice, the first is '{twice[0]}'.")
    if unknown := sorted(set(map(str, table["split"])) - set(SPLITS)):
        raise UserError(f"{source}: unknown split '{unknown[0]}'; allowed: {', '.join(SPLITS)}.")
    learned = table[table["split"] != "test"]
    if learned.empty:
        raise UserError(f"{source}: there is no training picture in it.")
    if label is None:
        return table.reset_index(drop=True)
    if learned[label].isna().any():
        first = learned["id"][learned[label].isna()].iloc[0]
        raise UserError(f"{source}: '{first}' is a training picture without a {label}.")
    counts = learned[label].value_counts()
    if len(counts) < 2:
        raise UserError(f"{source}: only the class '{counts.index[0]}'; at least 2 are needed.")
    if single := sorted(map(str, counts.index[counts < 2]), key=natural_key):
        raise UserError(
            f"{source}: {len(single)} classes have a single training picture "
            f"({', '.join(single[:5])}{', ...' if len(single) > 5 else ''}); "
            f"at least 2 are needed, one to learn from and one to hold out."
        )
    return table.reset_index(drop=True)


def strata_columns(label: Strata) -> list[str]:
    """All columns that are meant."""
    return [label] if isinstance(label, str) else list(label)


def combined_labels(samples: pd.DataFrame, label: str | tuple[str, ...]) -> "pd.Series[str]":
    """The label of each row as text; of several columns, those that are known, by their names."""
    if isinstance(label, str):
        return samples[label].astype(str)
    known = [
        (f"{column}=" + samples[column].astype(str)).where(samples[column].notna(), "")
        for column in label
    ]
    return pd.concat(known, axis=1).agg(" ".join, axis=1)


def take_subset(samples: pd.DataFrame, limit: int, *, label: Strata, seed: int) -> pd.DataFrame:
    """A part of the pictures to learn from that respects the labels, for quick experiments.

    Each class keeps its share of ``limit`` (at least 2 pictures, as many as every class needs);
    which pictures, ``seed`` alone decides, and a smaller subset is part of a larger one. Pictures
    of the test part all stay.

    Args:
        samples: the sample table.
        limit: pictures to learn from; a table that has no more stays as it is.
        label: what keeps its share.
        seed: 0 or more.

    Raises:
        UserError: ``limit`` has no room for 2 pictures of each class (and without each label).
    """
    learned = samples[samples["split"] != "test"].sort_values("id")
    if limit >= len(learned):
        return samples
    if isinstance(label, list):
        places = even_order(learned[label].astype(float).to_numpy(), limit, seed)
        if len(places) > limit:
            raise UserError(
                f"data.limit={limit} is too few for {len(label)} labels: at least {len(places)} "
                f"are needed, 2 pictures with each and 2 without."
            )
        kept = learned.index[places]
        chosen = (samples["split"] == "test") | samples.index.isin(kept)
        return samples[chosen].reset_index(drop=True)
    labels = combined_labels(learned, label)
    counts = labels.value_counts()
    if limit < 2 * len(counts):
        raise UserError(
            f"data.limit={limit} is too few for {len(counts)} classes: at least "
            f"{2 * len(counts)} are needed, 2 pictures of each."
        )
    # Each class's pictures, in an order of chance, get evenly spaced places on one line (Webster's
    # way to share out seats): the first `limit` on it respect the labels, whatever the limit.
    order = np.random.default_rng((seed, 3)).permutation(len(learned))
    rank = labels.iloc[order].groupby(labels.iloc[order]).cumcount()
    place = ((rank + 0.5) / labels.loc[rank.index].map(counts)).where(rank >= 2, 0)
    kept = place.sort_values(kind="stable").index[:limit]
    return samples[(samples["split"] == "test") | samples.index.isin(kept)].reset_index(drop=True)


def samples_fingerprint(samples: pd.DataFrame, label: Strata = "label") -> str:
    """Digest of what a run reads of the table (all but where the files lie, and labels that it has
    no use for), and of the files' sizes.

    Sizes, not times: a copy of the data on another machine is the same data.
    """
    columns = sorted(
        {"id", "split", "view", "group", *strata_columns(label)} & set(samples.columns)
    )
    rows = samples[columns].astype(str).to_numpy().tolist()
    return digest([columns, rows, [_file_size(path) for path in samples["path"]]])


def _file_size(path: str) -> int:
    if (place := place_in_shard(path)) is not None:
        return place[2]
    file = Path(path)
    return file.stat().st_size if file.exists() else -1
