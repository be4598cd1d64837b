"""Reader of the people layout: one folder per person, seven pictures each, labels in the names.

    images/000001_female_Asian_45/{mask1,...,mask5,incorrect_mask,normal}.{jpg,jpeg,png}

This is the layout of a well-known contest on masks, with pictures of 4,500 people.
"""

import re
from pathlib import Path

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import nfc
from product_cls.data.class_folders import (
    OnEmpty,
    Row,
    check_on_empty,
    folder_rows,
    picture_ids,
)
from product_cls.data.faults import Faults, listed
from product_cls.data.listing import class_folders, leads_to_file, leads_to_folder, list_pictures
from product_cls.data.samples import check_samples
from product_cls.data.source_files import existing_folder, with_paths
from product_cls.data.source_tables import read_table

PERSON = re.compile(r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<years>\d+)")
MASKS = ("mask", "incorrect", "normal")
STATES = {f"mask{n}": "mask" for n in range(1, 6)} | {
    "incorrect_mask": "incorrect",
    "normal": "normal",
}
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")  # the contest's age groups; few people are 60 or older


def read_people(
    root: str | Path,
    *,
    test: str | Path | None = None,
    on_empty: OnEmpty = "stop",
    encoding: str | None = None,
    separator: str | None = None,
) -> pd.DataFrame:
    """One folder per person, ``id_gender_race_age``; file names say how the mask is worn.

    Additional columns: ``mask`` (``MASKS``), ``gender`` (``GENDERS``), ``age_group`` (``AGES``),
    ``label`` (the contest's combined class, ``mask * 6 + gender * 3 + age``), ``race``, and ``age``
    in years. ``group`` is the person: the name of the folder.

    Args:
        root: folder of the data set; the person folders are in ``train/images``, in ``images`` or
            directly in it.
        test: pictures to predict: a folder with ``info.csv`` (column ``ImageID``; pictures in
            ``images`` or beside it) or with pictures only; None for ``root/eval``, if it exists.
        on_empty: for persons without a picture: ``stop``, or ``drop`` them with a warning.
        encoding, separator: of ``info.csv``, see ``read_table``; None recognises them.

    Raises:
        ValueError: ``root`` or ``test`` does not exist, a person without a picture with ``stop``,
            or whatever ``read_table`` refuses.
        UserError: a folder or picture name of another form, a picture that ``info.csv`` names and
            the folder lacks, or whatever ``check_samples`` refuses.
    """
    check_on_empty(on_empty)
    folder = existing_folder(root, "one folder per person: id_gender_race_age/mask1.jpg")
    if test is None:
        test_folder = folder / "eval"
    else:
        test_folder = existing_folder(test, "pictures to predict", argument="test")
    places = (folder / "train" / "images", folder / "images", folder)
    parent = next(place for place in places if leads_to_folder(place))
    aside = test_folder.resolve()
    persons = [entry for entry in class_folders(parent) if entry.resolve() != aside]
    if not persons:
        raise UserError(f"{parent} holds no folders; expected one per person, id_gender_race_age.")
    faults = Faults()
    pictures = folder_rows(parent, "train", faults, on_empty=on_empty, classes=persons)
    if strange := [entry.name for entry in persons if not PERSON.fullmatch(nfc(entry.name))]:
        faults.add(
            f"{len(strange)} folders in {parent} are not named id_gender_race_age "
            f"(000001_female_Asian_45; gender: {', '.join(GENDERS)}): {listed(strange)}.",
            pictures_lost=True,
        )
    if unknown := [row.id for row in pictures if _state(row) is None]:
        faults.add(
            f"{len(unknown)} pictures in {parent} are not named after a mask state: "
            f"{listed(unknown)}; allowed: {', '.join(STATES)}.",
            pictures_lost=True,
        )
    rows = [labels for row in pictures if (labels := _labelled(row)) is not None]
    if leads_to_folder(test_folder):
        rows += _test_rows(test_folder, faults, encoding=encoding, separator=separator)
    if not rows:
        faults.stop()
    # Only the mask is checked: with few people, a class of another label may be a single person.
    return check_samples(pd.DataFrame(rows), parent, label="mask", faults=faults)


def _state(row: Row) -> str | None:
    """The mask state that the name of a picture stands for."""
    return STATES.get(Path(row.path).stem)


def _labelled(row: Row) -> dict[str, object] | None:
    """The labels of a person's picture; None if a name has another form."""
    match, mask = PERSON.fullmatch(str(row.label)), _state(row)
    if match is None or mask is None:
        return None
    years = int(match["years"])
    age = (years >= 30) + (years >= 60)
    label = MASKS.index(mask) * 6 + GENDERS.index(match["gender"]) * 3 + age
    return {
        "id": row.id,
        "path": row.path,
        "split": row.split,
        "label": str(label),
        "mask": mask,
        "gender": match["gender"],
        "age_group": AGES[age],
        "race": match["race"],
        "age": years,
        "group": row.label,
    }


def _test_rows(
    folder: Path, faults: Faults, *, encoding: str | None, separator: str | None
) -> list[dict[str, object]]:
    """Pictures to predict, in the order of ``info.csv`` if there is one.

    Raises:
        ValueError: whatever ``read_table`` refuses.
        UserError: ``info.csv`` cannot be read, or a name is not UTF-8.
    """
    info = folder / "info.csv"
    if leads_to_file(info):
        table = read_table(info, ["ImageID"], encoding=encoding, separator=separator, dtype=str)
        inner = folder / "images" if leads_to_folder(folder / "images") else folder
        table = table.rename(columns={"ImageID": "id"})
        table = with_paths(table, inner, info, faults, what="ImageID")
        names, paths = table["id"].tolist(), table["path"].tolist()
    else:
        pictures = list_pictures(folder)
        names, paths = picture_ids(pictures, folder), [str(path) for path in pictures]
        if not pictures:
            faults.add(f"{folder} holds no picture to predict.")
    return [
        {"id": f"test/{name}", "path": path, "split": "test"}
        for name, path in zip(names, paths, strict=True)
    ]
