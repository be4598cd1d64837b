"""The people layout: labels from names, and one sentence for each mistake."""

from pathlib import Path
from typing import Any

import pytest
from made_people import make_people

from product_cls.data.folds import make_folds
from product_cls.data.people import AGES, GENDERS, MASKS, read_people


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_people(tmp_path / "people", 12)


def test_labels_from_names(root: Path) -> None:
    table = read_people(root)
    learned = table[table["split"] == "train"].set_index("id")
    assert len(learned) == 12 * 7 and not any("._" in name for name in learned.index)
    one = learned.loc["000003_female_Asian_45/incorrect_mask.png"]
    assert one[["mask", "gender", "age_group", "race", "age", "group"]].tolist() == [
        "incorrect", "female", "30-59", "Asian", 45, "000003_female_Asian_45",
    ]  # fmt: skip
    assert learned["mask"].value_counts().to_dict() == {"mask": 60, "incorrect": 12, "normal": 12}
    for row in learned.itertuples():
        mask, gender = MASKS.index(row.mask), GENDERS.index(row.gender)
        assert row.label == str(mask * 6 + gender * 3 + AGES.index(row.age_group))
    assert sorted(learned["label"].unique(), key=int) == [str(n) for n in range(18)]


@pytest.mark.parametrize(
    ("years", "group"), [(18, "<30"), (29, "<30"), (30, "30-59"), (59, "30-59"), (60, ">=60")]
)
def test_age_groups(root: Path, years: int, group: str) -> None:
    person = root / "train" / "images" / "000000_male_Asian_20"
    person.rename(person.with_name(f"000000_male_Asian_{years}"))
    table = read_people(root)
    assert set(table["age_group"][table["group"] == f"000000_male_Asian_{years}"]) == {group}


def test_pictures_to_predict(root: Path, tmp_path: Path) -> None:
    table = read_people(root)
    test = table[table["split"] == "test"]
    assert test["id"].tolist() == [f"test/{name}.jpg" for name in "dbeac"]  # the order of info.csv
    assert test[["mask", "gender", "age_group", "label"]].isna().all(axis=None)
    assert all(Path(path).is_file() for path in test["path"])
    loose = read_people(root, test=root / "eval" / "images")
    assert loose["id"][loose["split"] == "test"].tolist() == [f"test/{n}.jpg" for n in "abcde"]
    (root / "eval").rename(tmp_path / "elsewhere")
    assert set(read_people(root)["split"]) == {"train"}
    elsewhere = read_people(root, test=tmp_path / "elsewhere")
    assert elsewhere["id"].tolist() == table["id"].tolist()


def test_person_folders_in_the_root(root: Path, tmp_path: Path) -> None:
    here = (root / "train" / "images").rename(tmp_path / "here")
    (root / "eval").rename(here / "eval")
    table = read_people(here)
    assert (table["split"] == "train").sum() == 84 and (table["split"] == "test").sum() == 5


def test_a_person_stays_in_one_fold(root: Path) -> None:
    table = read_people(root)
    labels = ("mask", "gender", "age_group")
    folds = make_folds(table, "stratified_group", n_splits=2, seed=0, label=labels)
    assert len(folds) == 84
    assert folds.groupby(table.set_index("id")["group"].dropna()).nunique().eq(1).all()


def test_mistakes(root: Path, tmp_path: Path, refused: Any) -> None:
    images = root / "train" / "images"
    person = images / "000000_male_Asian_20"
    with refused("root=", "there is no such folder"):
        read_people(tmp_path / "nowhere")
    with refused("test=", "there is no such folder; expected pictures to predict"):
        read_people(root, test=tmp_path / "nowhere")
    for name in ("000000_man_Asian_20", "000000_male_20", "000000_male_Asian_old"):
        moved = person.rename(images / name)
        with refused(name, "not named id_gender_race_age"):
            read_people(root)
        moved.rename(person)
    strange = (person / "mask1.jpg").rename(person / "mask6.jpg")
    with refused("mask6.jpg", "allowed: mask1, mask2"):
        read_people(root)
    strange.rename(person / "mask1.jpg")
    (images / "000099_male_Asian_20").mkdir()
    with refused("000099_male_Asian_20 holds no picture"):
        read_people(root)
    assert len(read_people(root, on_empty="drop")) == 89
    (images / "000099_male_Asian_20").rmdir()
    (root / "eval" / "images" / "a.jpg").unlink()
    with refused("info.csv names 1 pictures that do not exist", "a.jpg"):
        read_people(root)
    (root / "eval" / "info.csv").write_text("name\na.jpg\n")
    with refused("info.csv has no column 'ImageID'"):
        read_people(root)
    (tmp_path / "empty").mkdir()
    with refused("holds no picture to predict"):
        read_people(root, test=tmp_path / "empty")
    with refused("holds no folders", "id_gender_race_age"):
        read_people(tmp_path / "empty")
