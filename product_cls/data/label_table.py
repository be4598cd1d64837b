"""Several labels per picture: 0/1 columns, and the reader of the letters contest's layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import nfc, shown
from product_cls.data.faults import Faults
from product_cls.data.fold_column import given_folds
from product_cls.data.listing import leads_to_file
from product_cls.data.samples import GIVEN_FOLD, check_samples
from product_cls.data.source_files import existing_folder, find_files, require_folder
from product_cls.data.source_tables import read_table

# Columns of the sample table that are not labels.
ROLES = ("id", "path", "split", "view", "group", GIVEN_FOLD)


def label_columns(samples: pd.DataFrame) -> list[str]:
    """Names of the label columns of a sample table."""
    return [str(column) for column in samples if column not in ROLES]


def zeros_and_ones(table: pd.DataFrame, labels: Sequence[str], source: str | Path) -> np.ndarray:
    """Convert label columns to an array.

    Args:
        table: N rows.
        labels: names of L columns.
        source: where the table was read from, for messages.

    Returns:
        0 or 1, int64 ``[N, L]``.

    Raises:
        UserError: a value other than 0 and 1, including an empty cell.
    """
    columns = [pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in labels]
    values = np.stack(columns, axis=1)
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = wrong[0]
        value = table[labels[column]].iloc[row]
        found = "an empty cell" if pd.isna(value) else f"'{shown(value)}'"
        raise UserError(
            f"{source}: column '{shown(labels[column])}' holds {found} (row {row + 1} of the "
            f"table); a label is 0 or 1."
        )
    return values.astype(np.int64)


def read_label_table(
    root: str | Path,
    *,
    train_file: str = "train.csv",
    train_pictures: str = "train",
    test_file: str | None = None,
    test_pictures: str = "test",
    answers_file: str | None = None,
    index_column: str = "index",
    labels: list[str] | None = None,
    number_column: str | None = None,
    numbers_file: str | None = None,
    digits: int = 5,
    suffix: str | None = ".png",
    encoding: str | None = None,
    separator: str | None = None,
    fold_column: str | None = None,
) -> pd.DataFrame:
    """The letters contest's layout: CSVs with an index column and one 0/1 column per label, and
    folders of pictures named by file number.

    The picture of row 7 is ``00007.png``. An index that is not a number is used as the file name,
    with ``suffix``. Ids are ``train/<index>`` and ``test/<index>``. Test rows keep the order of
    their file and have no labels unless ``answers_file`` has them.

    Args:
        root: folder that all other names are relative to.
        train_file: CSV of the training pictures.
        train_pictures: folder of the training pictures.
        test_file: CSV of the pictures to predict, such as a sample submission, whose labels are
            ignored; None for no test part.
        test_pictures: folder of the pictures to predict.
        answers_file: CSV with the labels of the test pictures; None if they are unknown.
        index_column: column that identifies a row.
        labels: the label columns; None for all columns except the index, the number and the fold.
        number_column: column of the file number, if it is not the index.
        numbers_file: CSV with ``index_column`` and ``number_column`` (``number`` if None), if the
            other files lack the number.
        digits: width to which file numbers are zero-padded.
        suffix: suffix of the file names; None finds it.
        encoding, separator: of the CSVs, see ``read_table``; None recognises them.
        fold_column: column of ``train_file`` with the fold that holds each picture out, as for
            ``read_csv``.

    Raises:
        ValueError: ``root`` or one of the files does not exist, or whatever ``read_table`` refuses.
        UserError: a missing folder, column or picture, a label other than 0 and 1, a label that all
            or no pictures have, or rows that differ between the files.
    """
    folder = existing_folder(root, "label CSVs and folders of pictures")
    form = {"encoding": encoding, "separator": separator}
    # Names that look like numbers may arrive as numbers.
    index_column, labels = nfc(str(index_column)), labels and [nfc(str(name)) for name in labels]
    number_column = None if number_column is None else nfc(str(number_column))
    numbers, faults = None, Faults()
    if numbers_file is not None:
        number_column = number_column or "number"
        numbers = _read(folder, numbers_file, "numbers_file", [index_column, number_column], form)
    fold_column = None if fold_column is None else nfc(str(fold_column))
    not_labels = [c for c in (index_column, number_column, fold_column) if c is not None]

    def located(table: pd.DataFrame, file: str, pictures: str, split: str) -> pd.DataFrame:
        """Columns ``id``, ``path`` and ``split`` for the rows of one CSV."""
        picture_folder = require_folder(folder / pictures, f"pictures of {file}")
        names = table[index_column]
        if numbers is not None:
            number_of = numbers.set_index(index_column)[number_column]
            names = number_of.reindex(names)
            if names.isna().any():
                first = table[index_column].iloc[int(names.isna().to_numpy().argmax())]
                raise UserError(f"{folder / str(numbers_file)} has no row for '{first}' of {file}.")
        elif number_column is not None and number_column in table:
            names = table[number_column]
            if names.isna().any():
                row = int(names.isna().argmax()) + 2
                raise UserError(f"{folder / file}: row {row} has no {number_column}.")
        stems = [name.zfill(digits) if name.isdecimal() else name for name in names]
        rows = pd.DataFrame(
            {
                "id": [f"{split}/{name}" for name in table[index_column]],
                "path": find_files(stems, picture_folder, folder / file, faults, suffix=suffix),
                "split": split,
            }
        )
        return rows

    needed = [index_column, *(labels or []), *([] if fold_column is None else [fold_column])]
    train = _read(folder, train_file, "train_file", needed, form)
    if number_column is not None and numbers is None and number_column not in train:
        raise UserError(f"{folder / train_file} has no column '{number_column}'.")
    names = labels or [str(column) for column in train if column not in not_labels]
    if reserved := [name for name in names if name in ROLES]:
        raise UserError(
            f"{folder / train_file}: a label cannot be called '{reserved[0]}', which is a column "
            f"of the sample table; rename it."
        )
    if not names:
        raise UserError(f"{folder / train_file} has no label column beside '{index_column}'.")
    rows = located(train, train_file, train_pictures, "train")
    rows[names] = _values(train, names, folder / train_file, faults)
    if fold_column is not None:
        rows[GIVEN_FOLD] = given_folds(train[fold_column], folder / train_file, fold_column)
    parts = [rows]
    if test_file is not None:
        test = _read(folder, test_file, "test_file", [index_column], form)
        extra = [str(c) for c in test if c not in not_labels and c not in train]
        if extra:
            raise UserError(
                f"{folder / test_file} has a column '{extra[0]}' that {train_file} lacks; both "
                f"need the same labels."
            )
        rows = located(test, test_file, test_pictures, "test")
        if answers_file is not None:
            answers = _read(folder, answers_file, "answers_file", [index_column, *names], form)
            answers = answers.set_index(index_column).reindex(test[index_column]).reset_index()
            rows[names] = _values(answers, names, folder / answers_file, faults)
        else:
            rows[names] = np.nan
        if fold_column is not None:
            rows[GIVEN_FOLD] = -1
        parts.append(rows)
    table = check_samples(pd.concat(parts), folder, label=None, faults=faults)
    check_both_kinds(table, names, folder / train_file)
    return table


def _values(
    table: pd.DataFrame, labels: Sequence[str], source: Path, faults: Faults
) -> np.ndarray | float:
    """``zeros_and_ones``, whose error becomes a fault; NaN then."""
    try:
        return zeros_and_ones(table, labels, source)
    except UserError as error:
        faults.add(str(error))
        return np.nan


def check_both_kinds(samples: pd.DataFrame, labels: Sequence[str], source: str | Path) -> None:
    """Check that each label is present in some training pictures and absent from others.

    Raises:
        UserError: a label that all or no training pictures have.
    """
    training = samples[samples["split"] != "test"]
    counts = zeros_and_ones(training, labels, source).sum(axis=0)
    for name, count in zip(labels, counts, strict=True):
        if not 0 < count < len(training):
            which = "no" if count == 0 else "every"
            raise UserError(
                f"{source}: {which} training picture has the label '{name}', so it cannot be "
                f"learned; leave it out of the labels."
            )


def _read(
    folder: Path,
    name: str,
    argument: str,
    columns: Sequence[str],
    form: Mapping[str, str | None],
) -> pd.DataFrame:
    """A CSV as text, with a unique index in every row.

    Args:
        folder: folder of the CSV.
        name: file name.
        argument: the argument of ``read_label_table`` that names the file.
        columns: required columns, the index first.
        form: encoding and separator, for ``read_table``.
    """
    file = folder / name
    if not leads_to_file(file):
        raise ValueError(f"{argument}={name}: there is no {file}.")
    table = read_table(file, columns, dtype=str, **form)
    index = table[columns[0]]
    if index.isna().any():
        raise UserError(f"{file}: row {int(index.isna().argmax()) + 2} has no {columns[0]}.")
    if index.duplicated().any():
        raise UserError(f"{file} names '{index[index.duplicated()].iloc[0]}' twice.")
    return table
