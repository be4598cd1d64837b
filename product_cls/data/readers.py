"""Readers: build the sample table from files on disk.

A new reader is a function that returns ``check_samples(table)``, and a file in ``conf/data``.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.samples import GIVEN_FOLD, SPLITS, check_samples, natural_key
from product_cls.data.source_files import (
    SUFFIXES,
    existing_folder,
    list_pictures,
    read_table,
    require_files,
    require_folder,
)


def read_folder(root: str | Path, *, test: str | Path | None = None) -> pd.DataFrame:
    """One folder per class: ``root/<label>/**/picture``.

    Args:
        root: the training pictures.
        test: pictures to predict, either one folder per class or loose files (labels unknown).

    Raises:
        ValueError: a missing folder.
        UserError: a class without a picture, test pictures both loose and in folders or inside the
            training folder, or whatever ``check_samples`` refuses.
    """
    folder = existing_folder(root, "one folder per class")
    rows = _folder_rows(folder, "train")
    if test is not None:
        test_folder = existing_folder(test, "pictures to predict", argument="test")
        train_path, test_path = folder.resolve(), test_folder.resolve()
        if train_path.is_relative_to(test_path) or test_path.is_relative_to(train_path):
            raise UserError(
                f"One of {folder} and the test folder {test_folder} lies inside the other, so "
                f"training would learn from test pictures; keep them apart."
            )
        pictures = list_pictures(test_folder)
        loose = [path for path in pictures if path.parent == test_folder]
        if loose and len(loose) < len(pictures):
            raise UserError(
                f"{test_folder} holds both loose pictures and pictures in folders; "
                f"expected either one folder per class or loose files."
            )
        rows += [(f"test/{path.name}", str(path), "test", None) for path in loose]
        # Test ids get a prefix, because both parts often have the same file names.
        labelled = [] if loose else _folder_rows(test_folder, "test")
        rows += [(f"test/{name}", path, split, label) for name, path, split, label in labelled]
    table = pd.DataFrame(rows, columns=["id", "path", "split", "label"])
    return check_samples(table, folder)


def _folder_rows(folder: Path, split: str) -> list[tuple[str, str, str, str | None]]:
    """``(id, path, split, label)`` of every picture in one folder per class."""
    rows: list[tuple[str, str, str, str | None]] = []
    classes = sorted(
        (entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."),
        key=lambda entry: natural_key(entry.name),
    )
    if not classes:
        raise UserError(f"{folder} holds no folders; expected one folder per class with pictures.")
    for entry in classes:
        pictures = list_pictures(entry)
        if not pictures:
            raise UserError(f"The class folder {entry} holds no picture ({', '.join(SUFFIXES)}).")
        rows += [(str(p.relative_to(folder)), str(p), split, entry.name) for p in pictures]
    return rows


def read_csv(
    file: str | Path,
    *,
    root: str | Path | None = None,
    path_column: str = "path",
    label_column: str | None = "label",
    split_column: str | None = None,
    view_column: str | None = None,
    group_column: str | None = None,
    fold_column: str | None = None,
) -> pd.DataFrame:
    """A CSV with one row per picture and named columns; other columns become further labels.

    Args:
        file: the CSV.
        root: folder that the paths are relative to; None for the CSV's own folder.
        path_column, label_column: columns of the path and the label; a ``label_column`` of None
            means that no single column is the label (several heads).
        split_column: ``train`` | ``val`` | ``test``; if None, rows without a label are ``test``,
            and without a label column all rows are ``train``.
        view_column, group_column: columns that become ``view`` and ``group``.
        fold_column: column of the fold that holds each training picture out, 0 or more; -1 or empty
            for a picture that is always learned from. It becomes ``given_fold``.

    Raises:
        ValueError: a missing file or root.
        UserError: a missing column or picture, a fold that is no whole number, or whatever
            ``check_samples`` refuses.
    """
    source = Path(file).expanduser()
    if not source.is_file():
        raise ValueError(f"file={file}: there is no such file; expected the table of samples.")
    roles = {
        "id": path_column,
        "label": label_column,
        "split": split_column,
        "view": view_column,
        "group": group_column,
        GIVEN_FOLD: fold_column,
    }
    named = [column for column in roles.values() if column is not None]
    if repeated := [column for column in named if named.count(column) > 1]:
        raise UserError(
            f"{source}: the column '{repeated[0]}' is named twice; each column has one role."
        )
    # Everything as text: any column may be a label, and '01' differs from '1'.
    table = read_table(source, named, dtype=str)
    # A column that merely has the name of a role gives way to the column set for the role.
    table = table.drop(
        columns=[c for c in table if roles.get(str(c)) is not None and c not in named]
    )
    table = table.rename(columns={old: new for new, old in roles.items() if old is not None})
    if table["id"].isna().any():
        raise UserError(f"{source}: row {int(table['id'].isna().argmax()) + 2} has no path.")
    if "view" in table:
        table["view"] = _numeric_if_possible(table["view"])
    base = source.parent if root is None else existing_folder(root, "the pictures of the CSV")
    table["path"] = [str(base / name) for name in table["id"]]
    require_files(table["path"], source)
    if split_column is None and label_column is None:
        table["split"] = "train"
    elif split_column is None:
        table["split"] = table["label"].isna().map({True: "test", False: "train"})
    if fold_column is not None:
        table[GIVEN_FOLD] = _given_folds(table, source, fold_column)
    return check_samples(table, source, label=None if label_column is None else "label")


def _given_folds(table: pd.DataFrame, source: Path, column: str) -> "pd.Series[int]":
    """The column of folds as int64; -1 where it is empty, and for test pictures."""
    folds = table[GIVEN_FOLD].where(table["split"] != "test").str.strip()
    folds = folds.where(folds != "").fillna("-1")
    # Tables that were written with empty cells hold '1.0'.
    wrong = ~folds.str.fullmatch(r"(-1|[0-9]{1,9})(\.0*)?")
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{source}: column '{column}' holds the fold '{folds.iloc[row]}' (row {row + 2}); "
            f"allowed: 0, 1, ..., or -1 or empty for a picture that is always learned from (names "
            f"of conditions are views: data.view_column={column} folds.strategy=view)."
        )
    return folds.str.partition(".")[0].astype("int64")


def _numeric_if_possible(column: "pd.Series[Any]") -> "pd.Series[Any]":
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def read_competition(root: str | Path, *, sample_file: str = "sample.csv") -> pd.DataFrame:
    """The competition's layout: ``train/<label>/<n>.jpg``, ``test/<n>.jpg``, ``sample.csv``.

    A ``views.csv`` (``id, label, roll, pitch, split``), as in rendered sets, adds ``view`` (the
    pitch in degrees) and the labels of the test pictures. A ``catalogue.csv`` (``label`` and
    further facts about each product) adds its other columns as further labels. Test rows keep the
    order of the sample file.

    Args:
        root: folder of the data set.
        sample_file: CSV with the column ``filename``: the pictures to predict.

    Raises:
        ValueError: ``root`` does not exist.
        UserError: a missing folder or file, a class without a picture, a test picture that the
            sample file names and the folder lacks, or whatever ``check_samples`` refuses.
    """
    folder = existing_folder(root, "the competition's layout: train/, test/, sample.csv")
    train = require_folder(folder / "train", "the training part of the competition's layout")
    rows = [(f"train/{name}", *rest) for name, *rest in _folder_rows(train, "train")]
    sample = folder / sample_file
    if not sample.is_file():
        raise UserError(f"There is no {sample} (filename,prediction: the pictures to predict).")
    names = read_table(sample, ["filename"], dtype=str)["filename"]
    if names.isna().any():
        raise UserError(f"{sample}: row {int(names.isna().argmax()) + 2} has no filename.")
    rows += [(f"test/{name}", str(folder / "test" / name), "test", None) for name in names]
    table = pd.DataFrame(rows, columns=["id", "path", "split", "label"])
    require_files(table["path"][table["split"] == "test"], sample)
    views = folder / "views.csv"
    if views.is_file():
        view_table = read_table(views, ["id", "label", "pitch"], dtype={"id": str, "label": str})
        view_table = view_table.set_index("id")
        if view_table.index.has_duplicates:
            twice = view_table.index[view_table.index.duplicated()][0]
            raise UserError(f"{views} names pictures twice, the first is {twice}.")
        absent = table["id"][~table["id"].isin(view_table.index)]
        if len(absent):
            raise UserError(f"{views} lacks {len(absent)} pictures, the first is {absent.iloc[0]}.")
        table["view"] = view_table["pitch"].reindex(table["id"]).to_numpy()
        labels = view_table["label"].reindex(table["id"]).to_numpy()
        table["label"] = table["label"].where(table["split"] != "test", labels)
    catalogue = folder / "catalogue.csv"
    if catalogue.is_file():
        table = _join_catalogue(table, catalogue)
    return check_samples(table, folder)


def _join_catalogue(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Add the columns of ``file`` by label; values are missing for labels that it lacks."""
    products = read_table(file, ["label"], dtype=str).set_index("label")
    if taken := [str(column) for column in products if column in table]:
        raise UserError(f"{file} has a column '{taken[0]}', which samples already have; rename it.")
    if products.index.has_duplicates:
        twice = products.index[products.index.duplicated()][0]
        raise UserError(f"{file} names products twice, the first is '{twice}'.")
    return table.join(products, on="label")


def read_grocery(root: str | Path) -> pd.DataFrame:
    """GroceryStoreDataset (Klasson et al., WACV 2019): ``train.txt``, ``val.txt``, ``test.txt``.

    Each line is ``path, fine, coarse``, and ``classes.csv`` names the classes. ``label`` is the
    name of the fine class, ``coarse`` that of the coarse one. Only ``train.txt`` is required; a
    set without ``val.txt`` or ``test.txt`` lacks that part.

    Args:
        root: folder of the data set, or of its public repository.

    Raises:
        ValueError: ``root`` does not exist.
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
    classes = read_table(folder / "classes.csv", [], dtype=str)
    if classes.shape[1] < 4:
        raise UserError(
            f"{folder / 'classes.csv'} needs 4 columns (class, its id, coarse class, its id); "
            f"it has {', '.join(map(str, classes))}."
        )
    fine = dict(zip(classes.iloc[:, 1], classes.iloc[:, 0], strict=True))
    coarse = dict(zip(classes.iloc[:, 3], classes.iloc[:, 2], strict=True))
    parts = []
    for split in SPLITS:
        file = folder / f"{split}.txt"
        if not file.is_file():
            continue
        columns = ["id", "fine", "coarse"]
        part = read_table(file, [], names=columns, dtype=str, skipinitialspace=True)
        part["label"], part["coarse"] = part["fine"].map(fine), part["coarse"].map(coarse)
        invalid = part["id"][part[["id", "label", "coarse"]].isna().any(axis=1)]
        if len(invalid):
            raise UserError(
                f"{file} holds {len(invalid)} lines without a path or with a class id that "
                f"classes.csv does not name, the first is '{invalid.iloc[0]}'."
            )
        part["path"] = [str(folder / name) for name in part["id"]]
        require_files(part["path"], file)
        parts.append(part.assign(split=split)[["id", "path", "split", "label", "coarse"]])
    return check_samples(pd.concat(parts), folder)
