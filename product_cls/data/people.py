"""Reader of the people layout: one folder per person, seven pictures each, labels in the names.

    images/000001_female_Asian_45/{mask1,...,mask5,incorrect_mask,normal}.{jpg,jpeg,png}

This is the layout of a well-known contest on masks, with pictures of 4,500 people.
"""

import re
from pathlib import Path

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.samples import check_samples, natural_key
from product_cls.data.source_files import existing_folder, list_pictures, read_table, require_files

PERSON = re.compile(r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<years>\d+)")
MASKS = ("mask", "incorrect", "normal")
STATES = {f"mask{n}": "mask" for n in range(1, 6)} | {
    "incorrect_mask": "incorrect",
    "normal": "normal",
}
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")  # the contest's age groups; few people are 60 or older


def read_people(root: str | Path, *, test: str | Path | None = None) -> pd.DataFrame:
    """One folder per person, ``id_gender_race_age``; file names say how the mask is worn.

    Additional columns: ``mask`` (``MASKS``), ``gender`` (``GENDERS``), ``age_group`` (``AGES``),
    ``label`` (the contest's combined class, ``mask * 6 + gender * 3 + age``), ``race``, and ``age``
    in years. ``group`` is the person: the name of the folder.

    Args:
        root: folder of the data set; the person folders are in ``train/images``, in ``images`` or
            directly in it.
        test: pictures to predict: a folder with ``info.csv`` (column ``ImageID``; pictures in
            ``images`` or beside it) or with pictures only; None for ``root/eval``, if it exists.

    Raises:
        ValueError: ``root`` or ``test`` does not exist.
        UserError: a folder or picture name of another form, a person without pictures, a
            picture that ``info.csv`` names and the folder lacks, or whatever ``check_samples``
            refuses.
    """
    folder = existing_folder(root, "one folder per person: id_gender_race_age/mask1.jpg")
    if test is None:
        test_folder = folder / "eval"
    else:
        test_folder = existing_folder(test, "pictures to predict", argument="test")
    places = (folder / "train" / "images", folder / "images", folder)
    parent = next(place for place in places if place.is_dir())
    persons = sorted(
        (
            entry
            for entry in parent.iterdir()
            if entry.is_dir() and entry.name[0] != "." and entry.resolve() != test_folder.resolve()
        ),
        key=lambda entry: natural_key(entry.name),
    )
    if not persons:
        raise UserError(f"{parent} holds no folders; expected one per person, id_gender_race_age.")
    rows = [row for person in persons for row in _person_rows(person, parent)]
    if test_folder.is_dir():
        rows += _test_rows(test_folder)
    # Only the mask is checked: with few people, a class of another label may be a single person.
    return check_samples(pd.DataFrame(rows), parent, label="mask")


def _person_rows(person: Path, parent: Path) -> list[dict[str, object]]:
    """Rows of one person's pictures.

    Raises:
        UserError: a folder or picture name of another form, or no picture.
    """
    match = PERSON.fullmatch(person.name)
    if match is None:
        raise UserError(
            f"The folder {person} is not named id_gender_race_age (000001_female_Asian_45; gender: "
            f"{', '.join(GENDERS)})."
        )
    years = int(match["years"])
    age = (years >= 30) + (years >= 60)
    pictures = list_pictures(person)
    if not pictures:
        raise UserError(f"The folder {person} holds no picture.")
    rows: list[dict[str, object]] = []
    for path in pictures:
        if path.stem not in STATES:
            raise UserError(
                f"{path} is not named after a mask state; allowed: {', '.join(STATES)}."
            )
        mask = STATES[path.stem]
        label = MASKS.index(mask) * 6 + GENDERS.index(match["gender"]) * 3 + age
        rows.append(
            {
                "id": str(path.relative_to(parent)),
                "path": str(path),
                "split": "train",
                "label": str(label),
                "mask": mask,
                "gender": match["gender"],
                "age_group": AGES[age],
                "race": match["race"],
                "age": years,
                "group": person.name,
            }
        )
    return rows


def _test_rows(folder: Path) -> list[dict[str, object]]:
    """Pictures to predict, in the order of ``info.csv`` if there is one.

    Raises:
        UserError: ``info.csv`` cannot be read, or a picture is missing.
    """
    info = folder / "info.csv"
    if info.is_file():
        names = read_table(info, ["ImageID"], dtype=str)["ImageID"]
        if names.isna().any():
            raise UserError(f"{info}: row {int(names.isna().argmax()) + 2} has no ImageID.")
        inner = folder / "images" if (folder / "images").is_dir() else folder
        paths = [inner / name for name in names]
        require_files(pd.Series([str(path) for path in paths]), info)
    else:
        inner, paths = folder, list_pictures(folder)
        if not paths:
            raise UserError(f"{folder} holds no picture to predict.")
    return [
        {"id": f"test/{path.relative_to(inner)}", "path": str(path), "split": "test"}
        for path in paths
    ]
