"""Corrections of labels that a person has written into a table: ``data.corrections=FILE``.

The CSV has a column ``id`` and one or more of: label columns, whose cells replace the labels of
the pictures (an empty cell changes nothing), and ``drop``, whose cells are empty or ``yes`` (the
picture is left out). The columns ``now`` and ``why`` are for people.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.names import nfc, shown
from product_cls.data.faults import listed
from product_cls.data.samples import GIVEN_FOLD, natural_key
from product_cls.data.source_tables import read_table

log = logging.getLogger(__name__)

NOTES = ("now", "why")
DROP = "drop"
FIXED = ("id", "path", "split", "view", "group", GIVEN_FOLD)  # columns that are no labels


def apply_corrections(samples: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The sample table with corrected labels, without dropped pictures.

    Args:
        samples: the sample table; not modified.
        file: the CSV.

    Raises:
        ValueError: there is no such file, it has other columns, an id twice, ids that the samples
            do not have, or another word than ``yes`` in ``drop``.
        UserError: the file cannot be read.
    """
    where = f"corrections={shown(file)}"
    if not file.is_file():
        raise ValueError(
            f"{where}: there is no such file; allowed: a CSV with a column id, or null."
        )
    table = read_table(file, ["id"], dtype=str)
    labels = [str(column) for column in samples if column not in FIXED]
    changed = [str(column) for column in table if column not in ("id", DROP, *NOTES)]
    if unknown := [column for column in changed if column not in labels]:
        raise ValueError(
            f"{where} has the column '{shown(unknown[0])}'; allowed: id, {', '.join(labels)}, "
            f"{DROP}, {', '.join(NOTES)}."
        )
    if not changed and DROP not in table:
        raise ValueError(
            f"{where} changes nothing: it has no column of {', '.join([*labels, DROP])}."
        )
    ids = table["id"].map(lambda text: nfc(text) if isinstance(text, str) else text)
    if ids.isna().any():
        raise ValueError(f"{where} has a line without an id (line {int(ids.isna().argmax()) + 2}).")
    if (twice := ids[ids.duplicated()]).size:
        raise ValueError(f"{where} has the id '{shown(twice.iloc[0])}' twice.")
    places = pd.Series(range(len(samples)), index=samples["id"].to_numpy())
    if absent := [name for name in ids if name not in places.index]:
        raise ValueError(
            f"{where} names {len(absent)} pictures that the data set does not have: "
            f"{listed(absent)}."
        )
    rows = places[ids.to_numpy()].to_numpy()
    corrected = samples.copy()
    count = 0
    for column in changed:
        given = table[column].notna().to_numpy()
        if not given.any():
            continue
        known = set(samples[column].dropna().astype(str))
        values = [nfc(text) for text in table[column][given]]
        if new := sorted({text for text in values if text not in known}, key=natural_key):
            log.warning("%s: %d corrected labels are new: %s.", where, len(new), listed(new))
        texts = corrected[column].astype(object)
        before = texts.iloc[rows[given]].astype(str).to_numpy()
        texts.iloc[rows[given]] = _as_column(values, samples[column])
        corrected[column] = texts.infer_objects()
        count += int((before != texts.iloc[rows[given]].astype(str).to_numpy()).sum())
    dropped = rows[_dropped(table, where)]
    kept = corrected.drop(index=corrected.index[dropped]).reset_index(drop=True)
    log.info("%s: %d labels changed, %d pictures left out.", where, count, len(dropped))
    return kept


def _as_column(values: list[str], column: "pd.Series[Any]") -> list[object]:
    """Texts as the numbers of a column of numbers, such as the 0/1 columns of several labels."""
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return list(values)
    return [type(column.dropna().iloc[0].item())(float(text)) for text in values]


def _dropped(table: pd.DataFrame, where: str) -> list[bool]:
    """Whether each line leaves its picture out."""
    if DROP not in table:
        return [False] * len(table)
    words = table[DROP].fillna("").str.strip().str.lower().tolist()
    if odd := [word for word in words if word not in ("", "yes")]:
        raise ValueError(f"{where}: {DROP}={shown(odd[0])}; allowed: yes, or an empty cell.")
    return [word == "yes" for word in words]
