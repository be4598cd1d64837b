"""Readers: from a layout on disk to the sample table.

A new reader is a function that returns ``check_samples(table)``, and a file in ``conf/data``.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.errors import UserError, reason
from product_cls.data.samples import SPLITS, check_samples, natural_key

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


def existing_folder(root: str | Path, what: str) -> Path:
    """``root`` as a path.

    Raises:
        UserError: it is no folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} ({what}); set data.root to where it is.")
    return folder


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below ``folder``, by path, without what is hidden or in hidden folders."""
    return sorted(
        (
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        ),
        # The name decides between 1.jpg and 1.png: folds must not depend on the file system.
        key=lambda path: [natural_key(part) for part in (*path.parent.parts, path.stem, path.name)],
    )


def read_table(file: Path, columns: Collection[str], **options: Any) -> pd.DataFrame:
    """A CSV in which only an empty cell is missing: 'NA' and 'None' are names of classes, too.

    Raises:
        UserError: it cannot be read, is empty, or lacks one of ``columns``.
    """
    try:
        table = pd.read_csv(file, keep_default_na=False, na_values=[""], **options)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        why = reason(error)
        raise UserError(f"{file} cannot be read as a CSV: {why}.") from None
    if table.empty:
        raise UserError(f"{file} has no rows.")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a surplus field for an index
        raise UserError(f"{file} cannot be read as a CSV: rows with more fields than columns.")
    for column in columns:
        if column not in table:
            raise UserError(f"{file} has no column '{column}'; it has {', '.join(table)}.")
    return table


def require_files(paths: "pd.Series[str]", source: Path) -> None:
    """Raises:
    UserError: some do not exist, with the first of them.
    """
    absent = [path for path in paths if not Path(path).is_file()]
    if absent:
        raise UserError(
            f"{source} names {len(absent)} pictures that do not exist, the first is {absent[0]}."
        )


def read_folder(root: str | Path, *, test: str | Path | None = None) -> pd.DataFrame:
    """A folder a class: ``root/<label>/**/picture``.

    Args:
        root: the training pictures.
        test: pictures to predict, as a folder a class too or as loose files (labels unknown).

    Raises:
        UserError: a missing folder, a class without a picture, test pictures that are loose and in
            folders or lie among the training pictures, or what ``check_samples`` refuses.
    """
    folder = existing_folder(root, "one folder a class")
    rows = _folder_rows(folder, "train")
    if test is not None:
        test_folder = existing_folder(test, "pictures to predict")
        here, there = folder.resolve(), test_folder.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise UserError(
                f"Of {folder} and the test folder {test_folder} one lies inside the other, so "
                f"training would learn from test pictures; keep them apart."
            )
        pictures = list_pictures(test_folder)
        loose = [path for path in pictures if path.parent == test_folder]
        if loose and len(loose) < len(pictures):
            raise UserError(
                f"{test_folder} holds both loose pictures and pictures in folders; "
                f"expected either folders a class or loose files."
            )
        rows += [(f"test/{path.name}", str(path), "test", None) for path in loose]
        # Ids of the test part get a prefix: the same file names are common in both parts.
        labelled = [] if loose else _folder_rows(test_folder, "test")
        rows += [(f"test/{name}", path, split, label) for name, path, split, label in labelled]
    table = pd.DataFrame(rows, columns=["id", "path", "split", "label"])
    return check_samples(table, folder)


def _folder_rows(folder: Path, split: str) -> list[tuple[str, str, str, str | None]]:
    rows: list[tuple[str, str, str, str | None]] = []
    classes = sorted(
        (entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."),
        key=lambda entry: natural_key(entry.name),
    )
    if not classes:
        raise UserError(f"{folder} holds no folders; expected one folder a class with pictures.")
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
) -> pd.DataFrame:
    """A CSV with a row a picture and named columns; other columns are kept as further labels.

    Args:
        file: the CSV.
        root: folder that the paths are relative to; the CSV's own where None.
        path_column, label_column: where a picture's path and label stand; label_column None for
            tables of which no one column is the label (several heads).
        split_column: ``train`` | ``val`` | ``test``; where None, rows without label are ``test``,
            and without a label column all are ``train``.
        view_column, group_column: become ``view`` and ``group``.

    Raises:
        UserError: a missing file, column or picture, or what ``check_samples`` refuses.
    """
    source = Path(file).expanduser()
    if not source.is_file():
        raise UserError(f"There is no file {source} (the table of samples); set data.file.")
    roles = {
        "id": path_column,
        "label": label_column,
        "split": split_column,
        "view": view_column,
        "group": group_column,
    }
    named = [column for column in roles.values() if column is not None]
    if twice := [column for column in named if named.count(column) > 1]:
        raise UserError(f"{source}: the column '{twice[0]}' is named twice; one meaning a column.")
    # All of it as text: any column may be a label, and '01' is another than '1'.
    table = read_table(source, named, dtype=str)
    # A column that merely has one of our names makes way for the one that was asked for.
    table = table.drop(
        columns=[c for c in table if roles.get(str(c)) is not None and c not in named]
    )
    table = table.rename(columns={old: new for new, old in roles.items() if old is not None})
    if table["id"].isna().any():
        raise UserError(f"{source}: row {int(table['id'].isna().argmax()) + 2} has no path.")
    if "view" in table:
        table["view"] = _numbers_if_all_are(table["view"])
    base = source.parent if root is None else existing_folder(root, "the CSV's paths start there")
    table["path"] = [str(base / name) for name in table["id"]]
    require_files(table["path"], source)
    if split_column is None and label_column is None:
        table["split"] = "train"
    elif split_column is None:
        table["split"] = table["label"].isna().map({True: "test", False: "train"})
    return check_samples(table, source, label=None if label_column is None else "label")


def _numbers_if_all_are(column: "pd.Series[Any]") -> "pd.Series[Any]":
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def read_competition(root: str | Path, *, sample_file: str = "sample.csv") -> pd.DataFrame:
    """The competition's layout: ``train/<label>/<n>.jpg``, ``test/<n>.jpg``, ``sample.csv``.

    A ``views.csv`` (``id, label, roll, pitch, split``), as rendered products have, adds ``view``
    (the pitch in degrees) and the test pictures' labels; a ``catalogue.csv`` (``label``, and what
    else is known of each product) its other columns, as further labels. Test rows come in the
    sample file's order.

    Raises:
        UserError: a missing folder or file, a class without a picture, a test picture that the
            sample file names and the folder lacks, or what ``check_samples`` refuses.
    """
    folder = existing_folder(root, "the competition's layout: train/, test/, sample.csv")
    train = existing_folder(folder / "train", "the training part of the competition's layout")
    rows = [(f"train/{name}", *rest) for name, *rest in _folder_rows(train, "train")]
    sample = folder / sample_file
    if not sample.is_file():
        raise UserError(f"There is no {sample} (filename,prediction: the pictures to predict).")
    names = read_table(sample, ["filename"], dtype=str)["filename"]
    if names.isna().any():
        raise UserError(f"{sample}: row {int(names.isna().argmax()) + 2} is without a filename.")
    rows += [(f"test/{name}", str(folder / "test" / name), "test", None) for name in names]
    table = pd.DataFrame(rows, columns=["id", "path", "split", "label"])
    require_files(table["path"][table["split"] == "test"], sample)
    views = folder / "views.csv"
    if views.is_file():
        known = read_table(views, ["id", "label", "pitch"], dtype={"id": str, "label": str})
        known = known.set_index("id")
        if known.index.has_duplicates:
            twice = known.index[known.index.duplicated()][0]
            raise UserError(f"{views} names pictures twice, the first is {twice}.")
        absent = table["id"][~table["id"].isin(known.index)]
        if len(absent):
            raise UserError(f"{views} lacks {len(absent)} pictures, the first is {absent.iloc[0]}.")
        table["view"] = known["pitch"].reindex(table["id"]).to_numpy()
        answers = known["label"].reindex(table["id"]).to_numpy()
        table["label"] = table["label"].where(table["split"] != "test", answers)
    catalogue = folder / "catalogue.csv"
    if catalogue.is_file():
        table = _join_catalogue(table, catalogue)
    return check_samples(table, folder)


def _join_catalogue(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table with the columns that ``file`` has for each label; missing for labels it lacks."""
    products = read_table(file, ["label"], dtype=str).set_index("label")
    if taken := [str(column) for column in products if column in table]:
        raise UserError(f"{file} has a column '{taken[0]}', which samples have already; rename it.")
    if products.index.has_duplicates:
        twice = products.index[products.index.duplicated()][0]
        raise UserError(f"{file} names products twice, the first is '{twice}'.")
    return table.join(products, on="label")


def read_grocery(root: str | Path) -> pd.DataFrame:
    """GroceryStoreDataset (Klasson et al., WACV 2019): ``train.txt``, ``val.txt``, ``test.txt``.

    Each line is ``path, fine, coarse``; ``classes.csv`` names the classes. ``label`` is the fine
    class by name, ``coarse`` the coarse one. Parts whose file is missing are left out, but for
    ``train.txt``.

    Raises:
        UserError: a missing folder or file, a line or class id that cannot be read, a missing
            picture, or what ``check_samples`` refuses.
    """
    folder = existing_folder(root, "GroceryStoreDataset: train.txt, val.txt, classes.csv")
    # The public repository keeps all of it one level down.
    folder = folder / "dataset" if (folder / "dataset" / "train.txt").is_file() else folder
    for name in ("train.txt", "classes.csv"):
        if not (folder / name).is_file():
            raise UserError(f"There is no {folder / name} (GroceryStoreDataset); check data.root.")
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
        bad = part["id"][part[["id", "label", "coarse"]].isna().any(axis=1)]
        if len(bad):
            raise UserError(
                f"{file} holds {len(bad)} lines without a path or with a class id that classes.csv "
                f"does not name, the first is '{bad.iloc[0]}'."
            )
        part["path"] = [str(folder / name) for name in part["id"]]
        require_files(part["path"], file)
        parts.append(part.assign(split=split)[["id", "path", "split", "label", "coarse"]])
    return check_samples(pd.concat(parts), folder)
