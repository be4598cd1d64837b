"""Readers: build the sample table from files on disk.

A new reader is a function that returns ``check_samples(table)``, and a file in ``conf/data``.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import nfc, shown
from product_cls.data.class_folders import (
    OnEmpty,
    Row,
    check_on_empty,
    folder_rows,
    loose_pictures,
)
from product_cls.data.faults import Faults, listed
from product_cls.data.fold_column import given_folds
from product_cls.data.fold_names import view_values
from product_cls.data.listing import leads_to_file
from product_cls.data.samples import GIVEN_FOLD, SPLITS, check_samples
from product_cls.data.source_files import (
    existing_folder,
    expanded,
    find_files,
    require_folder,
    with_paths,
)
from product_cls.data.source_tables import read_table


def read_folder(
    root: str | Path, *, test: str | Path | None = None, on_empty: OnEmpty = "stop"
) -> pd.DataFrame:
    """One folder per class: ``root/<label>/**/picture``.

    Ids are paths relative to ``root``, after ``test/`` for test pictures. If a class is called
    ``test``, those of training pictures begin with ``train/``.

    Args:
        root: the training pictures.
        test: pictures to predict, either one folder per class or loose files (labels unknown).
        on_empty: for class folders without a picture: ``stop``, or ``drop`` them with a warning.

    Raises:
        ValueError: a missing folder, or a class without a picture with ``stop``.
        UserError: test pictures both loose and in folders or inside the training folder, names that
            are not UTF-8, or whatever ``check_samples`` refuses.
    """
    check_on_empty(on_empty)
    folder = existing_folder(root, "one folder per class")
    faults = Faults()
    rows = folder_rows(folder, "train", faults, on_empty=on_empty)
    if any(row.label == "test" for row in rows):
        rows = [row._replace(id=f"train/{row.id}") for row in rows]
    if test is not None:
        test_folder = existing_folder(test, "pictures to predict", argument="test")
        train_path, test_path = folder.resolve(), test_folder.resolve()
        if train_path.is_relative_to(test_path) or test_path.is_relative_to(train_path):
            raise UserError(
                f"One of {folder} and the test folder {test_folder} lies inside the other, so "
                f"training would learn from test pictures; keep them apart."
            )
        # Test ids get a prefix, because both parts often have the same file names.
        test_rows = loose_pictures(test_folder, "test", faults)
        if test_rows is None:
            test_rows = folder_rows(test_folder, "test", faults, on_empty=on_empty)
        rows += [row._replace(id=f"test/{row.id}") for row in test_rows]
    return check_samples(pd.DataFrame(rows, columns=Row._fields), folder, faults=faults)


def read_csv(
    file: str | Path,
    *,
    root: str | Path | None = None,
    path_column: str = "path",
    label_column: str | None = "label",
    split_column: str | None = None,
    view_column: str | None = None,
    group_column: str | None = None,
    suffix: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    fold_column: str | None = None,
) -> pd.DataFrame:
    """A CSV with one row per picture and named columns; other columns become further labels.

    Paths are found in either Unicode form.

    Args:
        file: the CSV.
        root: folder that the paths are relative to; None for the CSV's own folder.
        path_column, label_column: columns of the path and the label; a ``label_column`` of None
            means that no single column is the label (several heads).
        split_column: ``train`` | ``val`` | ``test``; if None, rows without a label are ``test``,
            and without a label column all rows are ``train``.
        view_column, group_column: columns that become ``view`` and ``group``.
        suffix: added to paths that lack it, such as ``.jpg``; None finds the pictures of paths
            without a suffix.
        encoding, separator: of the CSV, see ``read_table``; None recognises them.
        fold_column: column of the fold that holds each training picture out, 0 or more; -1 or empty
            for a picture that is always learned from. It becomes ``given_fold``.

    Raises:
        ValueError: a missing file or root, a path without a suffix that has several pictures, or
            whatever ``read_table`` refuses.
        UserError: a missing column or picture, a fold that is no whole number, or whatever
            ``check_samples`` refuses.
    """
    source = expanded(file)
    if not leads_to_file(source):
        raise ValueError(f"file={shown(file)}: there is no such file; expected a table of samples.")
    roles = {
        "id": path_column,
        "label": label_column,
        "split": split_column,
        "view": view_column,
        "group": group_column,
        GIVEN_FOLD: fold_column,
    }
    # Names that look like numbers may arrive as numbers.
    roles = {role: None if name is None else nfc(str(name)) for role, name in roles.items()}
    named = [column for column in roles.values() if column is not None]
    if repeated := [column for column in named if named.count(column) > 1]:
        raise UserError(
            f"{source}: the column '{repeated[0]}' is named twice; each column has one role."
        )
    # Everything as text: any column may be a label, and '01' differs from '1'.
    table = read_table(source, named, encoding=encoding, separator=separator, dtype=str)
    # A column that merely has the name of a role gives way to the column set for the role.
    # Folds are only those of a column that is set: no column decides what is held out by its name.
    table = table.drop(
        columns=[
            c
            for c in table
            if c not in named and (roles.get(str(c)) is not None or c == GIVEN_FOLD)
        ]
    )
    table = table.rename(columns={old: new for new, old in roles.items() if old is not None})
    faults = Faults()
    base = source.parent if root is None else existing_folder(root, "the pictures of the CSV")
    table = with_paths(table, base, source, faults, what="path", suffix=suffix)
    if "view" in table:
        table["view"] = view_values(table["view"])
    if label_column is not None:  # a cell of spaces is empty, too
        table["label"] = table["label"].where(table["label"].str.strip() != "")
    if split_column is None and label_column is None:
        table["split"] = "train"
    elif split_column is None:
        table["split"] = table["label"].isna().map({True: "test", False: "train"})
    if fold_column is not None:
        table[GIVEN_FOLD] = given_folds(
            table[GIVEN_FOLD].where(table["split"] != "test"), source, fold_column
        )
    label = None if label_column is None else "label"
    return check_samples(table, source, label=label, faults=faults)


def read_competition(
    root: str | Path,
    *,
    sample_file: str = "sample.csv",
    on_empty: OnEmpty = "stop",
    encoding: str | None = None,
    separator: str | None = None,
) -> pd.DataFrame:
    """The competition's layout: ``train/<label>/<n>.jpg``, ``test/<n>.jpg``, ``sample.csv``.

    A ``views.csv`` (``id, label, roll, pitch, split``), as in rendered sets, adds ``view`` (the
    pitch in degrees) and the labels of the test pictures. A ``catalogue.csv`` (``label`` and
    further facts about each product) adds its other columns as further labels. Test rows keep the
    order of the sample file.

    Args:
        root: folder of the data set.
        sample_file: CSV with the column ``filename``: the pictures to predict.
        on_empty: for class folders without a picture: ``stop``, or ``drop`` them with a warning.
        encoding, separator: of the CSVs, see ``read_table``; None recognises them.

    Raises:
        ValueError: ``root`` does not exist, a class without a picture with ``stop``, or whatever
            ``read_table`` refuses.
        UserError: a missing folder or file, a test picture that the sample file names and the
            folder lacks, or whatever ``check_samples`` refuses.
    """
    check_on_empty(on_empty)
    folder = existing_folder(root, "the competition's layout: train/, test/, sample.csv")
    train = require_folder(folder / "train", "the training part of the competition's layout")
    faults = Faults()
    rows = folder_rows(train, "train", faults, on_empty=on_empty)
    rows = [row._replace(id=f"train/{row.id}") for row in rows]
    sample = folder / sample_file
    if not leads_to_file(sample):
        raise UserError(f"There is no {sample} (filename,prediction: the pictures to predict).")
    form: dict[str, Any] = {"encoding": encoding, "separator": separator}
    names = read_table(sample, ["filename"], dtype=str, **form)["filename"]
    test = with_paths(pd.DataFrame({"id": names}), folder / "test", sample, faults, what="filename")
    rows += [
        Row(f"test/{name}", path, "test", None)
        for name, path in zip(test["id"], test["path"], strict=True)
    ]
    table = pd.DataFrame(rows, columns=Row._fields)
    views = folder / "views.csv"
    if leads_to_file(views):
        view_table = read_table(
            views, ["id", "label", "pitch"], dtype={"id": str, "label": str}, **form
        )
        twice = view_table["id"].duplicated()
        if twice.any():
            faults.add(f"{views} names pictures twice: {listed(view_table['id'][twice].tolist())}.")
        view_table = view_table[~twice].set_index("id")
        absent = table["id"][~table["id"].isin(view_table.index)].tolist()
        if absent and not faults.sentences:  # pictures that do not exist have no views, either
            faults.add(f"{views} lacks {len(absent)} pictures: {listed(absent)}.")
        table["view"] = view_table["pitch"].reindex(table["id"]).to_numpy()
        labels = view_table["label"].reindex(table["id"]).to_numpy()
        table["label"] = table["label"].where(table["split"] != "test", labels)
    catalogue = folder / "catalogue.csv"
    if leads_to_file(catalogue):
        products = read_table(catalogue, ["label"], dtype=str, **form)
        table = _join_catalogue(table, products, catalogue, faults)
    return check_samples(table, folder, faults=faults)


def _join_catalogue(
    table: pd.DataFrame, products: pd.DataFrame, file: Path, faults: Faults
) -> pd.DataFrame:
    """Add the columns of a catalogue by label; values are missing for labels that it lacks."""
    reserved = {*table, GIVEN_FOLD}
    taken = [str(column) for column in products if column != "label" and column in reserved]
    if taken:
        faults.add(
            f"{file} has a column '{shown(taken[0])}', which samples already have; rename it."
        )
    twice = products["label"].duplicated()
    if twice.any():
        names = products["label"][twice].tolist()
        faults.add(f"{file} names products twice, the first is '{shown(names[0])}'.")
    return table.join(products[~twice].drop(columns=taken).set_index("label"), on="label")


def read_grocery(
    root: str | Path, *, encoding: str | None = None, separator: str | None = None
) -> pd.DataFrame:
    """GroceryStoreDataset (Klasson et al., WACV 2019): ``train.txt``, ``val.txt``, ``test.txt``.

    Each line is ``path, fine, coarse``, and ``classes.csv`` names the classes. ``label`` is the
    name of the fine class, ``coarse`` that of the coarse one. Only ``train.txt`` is required; a
    set without ``val.txt`` or ``test.txt`` lacks that part.

    Args:
        root: folder of the data set, or of its public repository.
        encoding, separator: of its files, see ``read_table``; None recognises them.

    Raises:
        ValueError: ``root`` does not exist, or whatever ``read_table`` refuses.
        UserError: a missing file, a line or class id that cannot be read, a missing picture, or
            whatever ``check_samples`` refuses.
    """
    folder = existing_folder(root, "GroceryStoreDataset: train.txt, val.txt, classes.csv")
    # In the public repository the data set is one level down.
    folder = folder / "dataset" if (folder / "dataset" / "train.txt").is_file() else folder
    for name in ("train.txt", "classes.csv"):
        if not (folder / name).is_file():
            raise ValueError(
                f"root={root}: there is no {folder / name}; expected GroceryStoreDataset."
            )
    form: dict[str, Any] = {"encoding": encoding, "separator": separator}
    classes = read_table(folder / "classes.csv", [], dtype=str, **form)
    if classes.shape[1] < 4:
        raise UserError(
            f"{folder / 'classes.csv'} needs 4 columns (class, its id, coarse class, its id); "
            f"it has {listed(list(classes), 20)}."
        )
    parts, faults = [], Faults()
    fine = _names_by_id(classes.iloc[:, [0, 1]], folder / "classes.csv", faults)
    coarse = _names_by_id(classes.iloc[:, [2, 3]], folder / "classes.csv", faults)
    for split in SPLITS:
        file = folder / f"{split}.txt"
        if not leads_to_file(file):
            continue
        columns = ["id", "fine", "coarse"]
        part = read_table(file, [], names=columns, dtype=str, skipinitialspace=True, **form)
        part["label"], part["coarse"] = part["fine"].map(fine), part["coarse"].map(coarse)
        invalid = part["id"][part[["id", "label", "coarse"]].isna().any(axis=1)]
        if len(invalid):
            faults.add(
                f"{file} holds {len(invalid)} lines without a path or with a class id that "
                f"classes.csv does not name, the first is '{shown(invalid.iloc[0])}'.",
                pictures_lost=True,
            )
        part = part[~part["id"].isin(invalid)]
        part["path"] = find_files(part["id"], folder, file, faults)
        parts.append(part.assign(split=split)[["id", "path", "split", "label", "coarse"]])
    return check_samples(pd.concat(parts), folder, faults=faults)


def _names_by_id(columns: pd.DataFrame, file: Path, faults: Faults) -> dict[str, str]:
    """Class ids and names from the columns of names and of ids; two names of an id, or two ids of a
    name, are a fault."""
    pairs = columns.dropna().drop_duplicates()
    for place, what, other in ((1, "class id", "names"), (0, "class", "ids")):
        twice = pairs.iloc[:, place].duplicated()
        if twice.any():
            name = shown(pairs.iloc[:, place][twice].iloc[0])
            faults.add(f"{file}: the {what} '{name}' has several {other}.", pictures_lost=True)
    return dict(zip(pairs.iloc[:, 1], pairs.iloc[:, 0], strict=True))
