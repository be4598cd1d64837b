"""The sample table: one row per picture.

Columns: ``id`` (unique and stable: a path relative to the root), ``path`` (location of the
picture), ``split`` (``train``; ``val`` where the data set has its own validation part; ``test``),
one or more label columns (missing if unknown) and, if known, ``view`` (the condition that
shifts, such as the camera's pitch in degrees), ``group`` (samples that must share a fold, such
as the pictures of a person) and ``given_fold`` (int: the fold that holds the sample out; -1 for
none).

``readers.py`` builds it from files on disk.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import product_cls.core.text_columns  # noqa: F401
from product_cls.core.files import digest
from product_cls.core.names import is_text, nfc, shown
from product_cls.data.faults import Faults, listed
from product_cls.data.pictures import place_in_shard
from product_cls.data.stratify import even_order

SPLITS = ("train", "val", "test")
GIVEN_FOLD = "given_fold"  # a name that no label has

# What to stratify by: the classes of one column; the combinations of a tuple of columns; or a list
# of 0/1 columns, each of which keeps its share.
Strata = str | tuple[str, ...] | list[str]


def natural_key(text: str) -> tuple[int, int, str]:
    """Sort key: whole numbers by value, before words by letter ('2' < '10' < 'a')."""
    # Python converts no text of thousands of digits.
    return (0, int(text), text) if text.isdecimal() and len(text) < 1000 else (1, 0, text)


def check_samples(
    table: pd.DataFrame,
    source: str | Path,
    *,
    label: str | None = "label",
    faults: Faults | None = None,
) -> pd.DataFrame:
    """Refuse a table that no model can be trained on.

    Args:
        table: with at least ``id``, ``path``, ``split`` and the column ``label``.
        source: where the table was read from, for messages.
        label: the label column, required in every training row; None leaves the check of labels to
            the task.
        faults: what the reader has found already; the error tells all of it.

    Returns:
        The table with a new index; ids, labels and names of columns are in Unicode NFC.

    Raises:
        ValueError: one of ``faults`` is about an argument of the reader.
        UserError: a duplicate id, an unknown split, no training picture, a training picture without
            a label, or fewer than two classes. Whether a class is too small to hold out depends on
            the folds.
    """
    faults = faults or Faults()
    table = composed_text(table)
    twice = table["id"].duplicated() & table["id"].notna()
    if names := sorted(table["id"][twice].unique()):
        faults.add(f"{source}: {len(names)} ids appear twice, the first is '{shown(names[0])}'.")
    if odd := [name for name in table["id"] if not is_text(str(name))]:
        faults.add(f"{source}: {len(odd)} ids are not UTF-8: {listed(odd)}.")
    if unknown := sorted(set(map(str, table["split"])) - set(SPLITS)):
        faults.add(f"{source}: unknown split '{listed(unknown)}'; allowed: {', '.join(SPLITS)}.")
    training = table[table["split"].isin(SPLITS) & (table["split"] != "test")]
    if training.empty and not faults.pictures_lost:
        faults.add(f"{source}: there is no training picture in it.")
    if label is not None:
        _check_labels(training, label, source, faults)
    faults.stop()
    return table.reset_index(drop=True)


def _check_labels(training: pd.DataFrame, label: str, source: str | Path, faults: Faults) -> None:
    """Add what is wrong with the labels of the training pictures."""
    if missing := training["id"][training[label].isna()].tolist():
        rest = f" ({len(missing)} such: {listed(missing)})" if len(missing) > 1 else ""
        faults.add(
            f"{source}: '{shown(missing[0])}' is a training picture without a {label}{rest}."
        )
    counts = training[label].value_counts()
    if counts.empty or faults.pictures_lost:
        return
    if len(counts) < 2:
        only = shown(counts.index[0])
        faults.add(f"{source} has only the class '{only}'; at least 2 are needed.")


def composed_text(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose text and names of columns are in Unicode NFC, except for ``path``.

    The same name in two forms, as macOS and other systems write it, is then one label.
    """
    table = table.rename(columns={c: nfc(c) for c in table if isinstance(c, str)})
    for column in table:
        values = table[column]
        # Other columns stay as they are: pandas would infer another type for them.
        if column != "path" and any(isinstance(x, str) and nfc(x) != x for x in values):
            table[column] = [nfc(x) if isinstance(x, str) else x for x in values]
    return table


def strata_columns(label: Strata) -> list[str]:
    """The columns that ``label`` names."""
    return [label] if isinstance(label, str) else list(label)


def combined_labels(samples: pd.DataFrame, label: str | tuple[str, ...]) -> "pd.Series[str]":
    """The label of each row as text; for several columns, the ``COLUMN=LABEL`` it has."""
    if isinstance(label, str):
        return samples[label].astype(str)
    texts = [
        (f"{column}=" + samples[column].astype(str)).where(samples[column].notna(), "")
        for column in label
    ]
    return pd.concat(texts, axis=1).agg(" ".join, axis=1)


def take_subset(samples: pd.DataFrame, limit: int, *, label: Strata, seed: int) -> pd.DataFrame:
    """A stratified subset of the training pictures, for quick experiments.

    Each class keeps its share, and at least the 2 pictures that every class needs. The choice
    depends only on ``seed``, and a smaller subset is part of a larger one. All test pictures stay.

    Args:
        samples: the sample table.
        limit: number of training pictures; a table with no more than that is returned unchanged.
        label: what to stratify by.
        seed: 0 or more.

    Raises:
        ValueError: ``limit`` has no room for 2 pictures of each class, or for 2 with and 2 without
            each label.
    """
    training = samples[samples["split"] != "test"].sort_values("id")
    if limit >= len(training):
        return samples
    is_test = samples["split"] == "test"
    if isinstance(label, list):
        places = even_order(training[label].astype(float).to_numpy(), limit, seed)
        if len(places) > limit:
            raise ValueError(
                f"limit={limit} is too few for {len(label)} labels; allowed: {len(places)} or "
                f"more, for 2 pictures with each and 2 without."
            )
        kept = training.index[places]
        return samples[is_test | samples.index.isin(kept)].reset_index(drop=True)
    labels = combined_labels(training, label)
    counts = labels.value_counts()
    if limit < 2 * len(counts):
        raise ValueError(
            f"limit={limit} is too few for {len(counts)} classes; allowed: {2 * len(counts)} or "
            f"more, for 2 pictures of each."
        )
    # The pictures of each class, in random order, get evenly spaced places on one line (Webster's
    # apportionment of seats), so that the first `limit` places keep the shares for any limit.
    order = np.random.default_rng((seed, 3)).permutation(len(training))
    rank = labels.iloc[order].groupby(labels.iloc[order]).cumcount()
    place = ((rank + 0.5) / labels.loc[rank.index].map(counts)).where(rank >= 2, 0)
    kept = place.sort_values(kind="stable").index[:limit]
    return samples[is_test | samples.index.isin(kept)].reset_index(drop=True)


def samples_fingerprint(samples: pd.DataFrame, label: Strata = "label") -> str:
    """Digest of the parts of the table that a run reads, and of the sizes of the files.

    Locations of files and unused labels do not count. Sizes count instead of times, because copied
    data is the same data.
    """
    columns = sorted(
        {"id", "split", "view", "group", *strata_columns(label)} & set(samples.columns)
    )
    rows = samples[columns].astype(str).to_numpy().tolist()
    return digest([columns, rows, [_file_size(path) for path in samples["path"]]])


def _file_size(path: str) -> int:
    """Size of a picture in bytes; -1 if it does not exist."""
    if (place := place_in_shard(path)) is not None:
        return place[2]
    file = Path(path)
    return file.stat().st_size if file.exists() else -1
