"""Reader of the people's layout: a folder a person, seven pictures each, labels in the names.

    images/000001_female_Asian_45/{mask1,...,mask5,incorrect_mask,normal}.{jpg,jpeg,png}

is the layout of a well-known contest on masks, in which 4,500 people are photographed.
"""

import re
from pathlib import Path

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.readers import existing_folder, list_pictures, read_table, require_files
from product_cls.data.samples import check_samples, natural_key

PERSON = re.compile(r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<years>\d+)")
MASKS = ("mask", "incorrect", "normal")
STATES = {f"mask{n}": "mask" for n in range(1, 6)} | {
    "incorrect_mask": "incorrect",
    "normal": "normal",
}
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")  # of the contest: people of 60 are few


def read_people(root: str | Path, *, test: str | Path | None = None) -> pd.DataFrame:
    """A folder a person, named ``id_gender_race_age``, with pictures named by how the mask is worn.

    Columns beside the usual ones: ``mask`` (``MASKS``), ``gender`` (``GENDERS``), ``age_group``
    (``AGES``), ``label`` (the combined class of the contest, ``mask * 6 + gender * 3 + age``),
    ``race`` and ``age`` in years. ``group`` is the person: a folder's name.

    Args:
        root: of the data set; people's folders are in ``train/images``, ``images`` or the root.
        test: pictures to predict: a folder with ``info.csv`` (a column ``ImageID``; pictures in
            ``images`` or beside it) or with pictures; where None, ``root/eval`` if there is one.

    Raises:
        UserError: a missing folder, a folder or picture named otherwise, a person without pictures,
            a picture that ``info.csv`` names and the folder lacks, or what ``check_samples``
            refuses.
    """
    folder = existing_folder(root, "a folder a person: id_gender_race_age/mask1.jpg")
    tests = folder / "eval" if test is None else existing_folder(test, "pictures to predict")
    places = (folder / "train" / "images", folder / "images", folder)
    people = next(place for place in places if place.is_dir())
    persons = sorted(
        (
            entry
            for entry in people.iterdir()
            if entry.is_dir() and entry.name[0] != "." and entry.resolve() != tests.resolve()
        ),
        key=lambda entry: natural_key(entry.name),
    )
    if not persons:
        raise UserError(f"{people} holds no folders; expected one a person, id_gender_race_age.")
    rows = [row for person in persons for row in _person_rows(person, people)]
    if tests.is_dir():
        rows += _test_rows(tests)
    # By the mask alone: with few people a class of the others may well be one person.
    return check_samples(pd.DataFrame(rows), people, label="mask")


def _person_rows(person: Path, people: Path) -> list[dict[str, object]]:
    """Raises:
    UserError: a name of another form, or no picture.
    """
    named = PERSON.fullmatch(person.name)
    if named is None:
        raise UserError(
            f"The folder {person} is not named id_gender_race_age (000001_female_Asian_45; gender: "
            f"{', '.join(GENDERS)})."
        )
    years = int(named["years"])
    age = (years >= 30) + (years >= 60)
    pictures = list_pictures(person)
    if not pictures:
        raise UserError(f"The folder {person} holds no picture.")
    rows: list[dict[str, object]] = []
    for path in pictures:
        if path.stem not in STATES:
            raise UserError(f"{path} has no name of a mask's state; allowed: {', '.join(STATES)}.")
        mask = STATES[path.stem]
        label = MASKS.index(mask) * 6 + GENDERS.index(named["gender"]) * 3 + age
        rows.append(
            {
                "id": str(path.relative_to(people)),
                "path": str(path),
                "split": "train",
                "label": str(label),
                "mask": mask,
                "gender": named["gender"],
                "age_group": AGES[age],
                "race": named["race"],
                "age": years,
                "group": person.name,
            }
        )
    return rows


def _test_rows(folder: Path) -> list[dict[str, object]]:
    """Pictures to predict, in the order of ``info.csv`` where there is one.

    Raises:
        UserError: ``info.csv`` cannot be read, or a picture is missing.
    """
    info = folder / "info.csv"
    if info.is_file():
        names = read_table(info, ["ImageID"], dtype=str)["ImageID"]
        if names.isna().any():
            raise UserError(f"{info}: row {int(names.isna().argmax()) + 2} is without an ImageID.")
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
