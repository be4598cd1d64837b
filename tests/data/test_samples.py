"""Readers: the sample table of each layout, and one sentence for each mistake."""

import csv
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from product_cls.data.folds import make_folds
from product_cls.data.listing import list_pictures
from product_cls.data.readers import (
    read_competition,
    read_csv,
    read_folder,
    read_grocery,
)
from product_cls.data.samples import (
    check_samples,
    natural_key,
    samples_fingerprint,
    take_subset,
)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def classes(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for n in range(count):
            picture(root / label / f"{n}.jpg")
    return root


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def own_root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny competition that a test may damage."""
    return shutil.copytree(tiny_root, tmp_path / "own")


def test_natural_order() -> None:
    words = ["10", "b", "2", "a10", "1", "a"]
    assert sorted(words, key=natural_key) == ["1", "2", "10", "a", "a10", "b"]


# --- the competition's layout


def test_competition(tiny_root: Path) -> None:
    table = read_competition(tiny_root)
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    assert len(train) == 40 and len(test) == 32
    assert train["label"].drop_duplicates().tolist() == ["0", "1", "2", "10"]
    assert train["id"].iloc[0] == "train/0/0.jpg"
    with (tiny_root / "sample.csv").open() as file:
        names = [f"test/{row['filename']}" for row in csv.DictReader(file)]
    assert test["id"].tolist() == names != sorted(names, key=natural_key)
    assert set(train["view"]) == {0, 30} and set(test["view"]) == {0, 30, 60}
    assert test["label"].value_counts().to_dict() == {"0": 8, "1": 8, "2": 8, "10": 8}
    assert all(Path(path).is_file() for path in table["path"])
    with (tiny_root / "views.csv").open() as file:
        pitch = {row["id"]: int(row["pitch"]) for row in csv.DictReader(file)}
    assert table.set_index("id")["view"].to_dict() == pitch


def test_competition_without_views(own_root: Path) -> None:
    (own_root / "views.csv").unlink()
    table = read_competition(own_root)
    assert "view" not in table
    assert table["label"][table["split"] == "test"].isna().all()
    assert table["label"][table["split"] == "train"].notna().all()


def test_competition_takes_training_labels_from_folders_not_from_views(own_root: Path) -> None:
    table = pd.read_csv(own_root / "views.csv", dtype=str)
    table.loc[table["split"] == "train", "label"] = "7"
    table.to_csv(own_root / "views.csv", index=False)
    read = read_competition(own_root)
    assert read["label"][read["split"] == "train"].unique().tolist() == ["0", "1", "2", "10"]


def test_competition_without_its_parts(tmp_path: Path, own_root: Path, refused: Any) -> None:
    with refused("root=", "nowhere: there is no such folder"):
        read_competition(tmp_path / "nowhere")
    (own_root / "sample.csv").rename(own_root / "other.csv")
    assert len(read_competition(own_root, sample_file="other.csv")) == 72
    with refused("There is no", "sample.csv", "filename,prediction"):
        read_competition(own_root)
    shutil.rmtree(own_root / "train")
    with refused("There is no folder", "train"):
        read_competition(own_root)


def test_competition_with_an_empty_class(own_root: Path, refused: Any) -> None:
    (own_root / "train" / "3").mkdir()
    with refused("class folder", "train/3", "no picture"):
        read_competition(own_root)


def test_a_class_with_a_single_picture_can_only_be_learned_from(
    own_root: Path, refused: Any
) -> None:
    for n in range(1, 10):
        (own_root / "train" / "10" / f"{n}.jpg").unlink()
    samples = read_competition(own_root)
    with refused("n_splits=5 exceeds", "1 have a single picture: 10", "min_per_class=5"):
        make_folds(samples, "stratified", label="label")
    folds = make_folds(samples, "stratified", label="label", min_per_class=2)
    assert folds.index[folds == -1].str.startswith("train/10/").tolist() == [True]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("file,prediction\n0.jpg,0\n", ("no column 'filename'", "file, prediction")),
        ("filename,prediction\n99.jpg,0\n", ("1 pictures that do not exist", "99.jpg")),
        ("filename,prediction\n,0\n", ("row 2 has no filename",)),
        ("filename,prediction\n0.jpg,0\n0.jpg,0\n", ("appear twice", "test/0.jpg")),
        ("", ("sample.csv", "cannot be read")),
        ("filename,prediction\n", ("sample.csv has no rows",)),
        ("filename,prediction\n0.jpg,0,0\n1.jpg,0,0\n", ("sample.csv", "cannot be read")),
        ("filename,prediction\n0.jpg,0\n1.jpg,0,0\n", ("sample.csv", "cannot be read")),
    ],
)
def test_competition_with_a_bad_sample_file(
    own_root: Path, refused: Any, text: str, parts: tuple[str, ...]
) -> None:
    (own_root / "sample.csv").write_text(text)
    with refused(*parts):
        read_competition(own_root)


def test_competition_with_bad_views(own_root: Path, refused: Any) -> None:
    views = own_root / "views.csv"
    rows = list(csv.reader(views.open()))
    write_csv(views, [row[:3] for row in rows])
    with refused("views.csv", "no column 'pitch'"):
        read_competition(own_root)
    write_csv(views, [*rows, rows[1]])
    with refused("views.csv", "twice", "train/0/0.jpg"):
        read_competition(own_root)
    write_csv(views, [rows[0], *rows[2:]])
    with refused("views.csv lacks 1 pictures", "train/0/0.jpg"):
        read_competition(own_root)


def test_competition_with_a_catalogue(own_root: Path, refused: Any) -> None:
    """Facts about each product become further labels."""
    rows = [("label", "brand", "size"), ("0", "A", "small"), ("2", "B", ""), ("10", "A", "large")]
    file = write_csv(own_root / "catalogue.csv", rows)
    samples = read_competition(own_root)
    facts = {"0": ("A", "small"), "2": ("B", None), "10": ("A", "large"), "1": (None, None)}
    for label, brand, size in samples[["label", "brand", "size"]].itertuples(index=False):
        assert tuple(None if pd.isna(x) else x for x in (brand, size)) == facts[label]
    # Unused labels do not change the fingerprint of a run.
    (own_root / "catalogue.csv").unlink()
    plain = read_competition(own_root)
    assert samples_fingerprint(plain) == samples_fingerprint(samples)
    other = samples_fingerprint(samples, ("brand",))
    assert other != samples_fingerprint(samples, ("brand", "size"))
    write_csv(file, [*rows, rows[1]])
    with refused("catalogue.csv", "twice", "'0'"):
        read_competition(own_root)
    write_csv(file, [("label", "view"), ("0", "A")])
    with refused("catalogue.csv", "column 'view'"):
        read_competition(own_root)
    write_csv(file, [("name", "brand"), ("0", "A")])
    with refused("catalogue.csv", "no column 'label'"):
        read_competition(own_root)


# --- one folder per class


def test_folder(tmp_path: Path) -> None:
    root = classes(tmp_path / "data", {"b": 2, "10": 2, "2": 2})
    picture(root / "b" / "deeper" / "x.PNG")
    (root / "b" / "notes.txt").write_text("no picture")
    table = read_folder(root)
    assert table["label"].drop_duplicates().tolist() == ["2", "10", "b"]
    assert set(table["split"]) == {"train"}
    assert "b/deeper/x.PNG" in set(table["id"]) and len(table) == 7


def test_folder_with_test_pictures(tmp_path: Path) -> None:
    root = classes(tmp_path / "data", {"a": 2, "b": 2})
    picture(tmp_path / "loose" / "10.jpg"), picture(tmp_path / "loose" / "9.jpg")
    table = read_folder(root, test=tmp_path / "loose")
    test = table[table["split"] == "test"]
    assert test["id"].tolist() == ["test/9.jpg", "test/10.jpg"] and test["label"].isna().all()
    labelled = classes(tmp_path / "labelled", {"a": 1, "c": 1})
    test = read_folder(root, test=labelled).query("split == 'test'")
    assert list(zip(test["id"], test["label"], strict=True)) == [
        ("test/a/0.jpg", "a"),
        ("test/c/0.jpg", "c"),
    ]


def test_folder_mistakes(tmp_path: Path, refused: Any) -> None:
    with refused("root=", "there is no such folder"):
        read_folder(tmp_path / "nowhere")
    picture(tmp_path / "flat" / "1.jpg")
    for root in ("x" * 300, "a\0b", "~nobody-of-this-name"):
        with refused("root=", "there is no such folder"):
            read_folder(root)
        with refused("file=", "there is no such file"):
            read_csv(root)
    with refused("holds no folders", "one folder per class"):
        read_folder(tmp_path / "flat")
    with refused("only the class 'a'"):
        read_folder(classes(tmp_path / "one", {"a": 3}))
    with refused("on_empty=stop: the class folder", "b holds no picture", "drop"):
        read_folder(classes(tmp_path / "empty", {"a": 3, "b": 0}))
    with refused("test=", "nowhere: there is no such folder; expected pictures to predict"):
        read_folder(classes(tmp_path / "fine", {"a": 3, "b": 3}), test=tmp_path / "nowhere")


def test_test_folder_is_separate_and_either_loose_or_labelled(tmp_path: Path, refused: Any) -> None:
    root = classes(tmp_path / "data", {"a": 2, "b": 2})
    mixed = classes(tmp_path / "mixed", {"a": 2})
    picture(mixed / "0.jpg")
    with refused("mixed", "both"):
        read_folder(root, test=mixed)
    inside = classes(root / "test", {"a": 2})  # would be learned as a class 'test'
    with refused("inside", "test"):
        read_folder(root, test=inside)


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    root = classes(tmp_path / ".cache" / "data", {"a": 2, "b": 2})  # hidden above the root is fine
    picture(root / "a" / ".hidden.jpg")
    picture(root / "a" / ".ipynb_checkpoints" / "0-checkpoint.jpg")
    picture(root / ".trash" / "0.jpg")
    (root / "b" / "album.jpg").mkdir()
    assert len(read_folder(root)) == 4


def test_order_of_pictures_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{n}.{suffix}" for n in range(10) for suffix in ("jpg", "png")]
    for name in reversed(names):
        picture(tmp_path / name)
    assert [path.name for path in list_pictures(tmp_path)] == names


@pytest.mark.parametrize("labels", [("a", "test"), ("test", "train"), ("Test", "test")])
def test_classes_with_the_names_of_parts(tmp_path: Path, labels: tuple[str, ...]) -> None:
    root = classes(tmp_path / "data", dict.fromkeys(labels, 2))
    alone = read_folder(root)
    loose = picture(tmp_path / "loose" / "0.jpg").parent
    labelled = classes(tmp_path / "labelled", dict.fromkeys(labels, 2))
    for test in (loose, labelled):
        table = read_folder(root, test=test)
        assert table["id"].is_unique and table["path"].is_unique
        learned = table[table["split"] == "train"]
        assert learned["label"].tolist() == alone["label"].tolist()
        assert learned["id"].tolist() == alone["id"].tolist()  # folds stay valid
        assert all(name.startswith("test/") for name in table["id"][len(alone) :])


def test_empty_class_folders(
    tmp_path: Path, refused: Any, caplog: pytest.LogCaptureFixture, own_root: Path
) -> None:
    root = classes(tmp_path / "data", {"a": 2, "b": 2, "c": 0, "d": 0})
    (root / "c" / "notes.txt").touch()
    with refused("on_empty=stop: 2 class folders in", "(c, d)", "drop"):
        read_folder(root)
    assert set(read_folder(root, on_empty="drop")["label"]) == {"a", "b"}
    assert "2 class folders" in caplog.text and "(c, d)" in caplog.text
    (own_root / "train" / "99").mkdir()
    assert len(read_competition(own_root, on_empty="drop")) == 72
    for read in (read_folder, read_competition):
        with refused("on_empty=skip; allowed: stop, drop"):
            read(own_root, on_empty="skip")  # type: ignore[arg-type]
    with refused("only the class 'a'"):
        read_folder(classes(tmp_path / "one", {"a": 2, "b": 0}), on_empty="drop")


def test_pictures_beside_the_class_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = classes(tmp_path / "data", {"a": 2, "b": 2})
    picture(root / "0.jpg"), (root / "README.txt").touch()
    assert len(read_folder(root)) == 4
    assert "left out 1 pictures that are in no class folder, the first is 0.jpg" in caplog.text


def faults(read: Callable[[], object]) -> list[str]:
    """The sentences, a line each, of the error that a reader raises."""
    with pytest.raises(ValueError) as caught:
        read()
    return str(caught.value).splitlines()


def test_folder_tells_all_faults_at_once(tmp_path: Path) -> None:
    root = classes(tmp_path / "data", {"a": 2, "b": 0, "c": 1})
    mixed = classes(tmp_path / "mixed", {"a": 1})
    picture(mixed / "0.jpg")
    first, second = faults(lambda: read_folder(root, test=mixed))
    assert first.startswith("on_empty=stop") and "both loose pictures" in second


# --- CSV


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for n in range(6):
        picture(tmp_path / "pics" / f"{n}.png")
    return tmp_path


def six(header: Sequence[str], *columns: Sequence[Any]) -> list[Sequence[Any]]:
    paths = [f"pics/{n}.png" for n in range(6)]
    return [header, *zip(paths, *columns, strict=True)]


def test_csv(pictures: Path) -> None:
    rows = six(["path", "label", "colour"], ["01", "01", "2", "2", "", ""], "rgbrgb")
    table = read_csv(write_csv(pictures / "all.csv", rows))
    assert table["id"].tolist() == [f"pics/{n}.png" for n in range(6)]
    assert table["path"].iloc[0] == str(pictures / "pics" / "0.png")
    assert table["label"].tolist()[:4] == ["01", "01", "2", "2"]
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert "".join(table["colour"]) == "rgbrgb"


def test_csv_with_named_columns(pictures: Path) -> None:
    rows = six(
        ["file", "breed", "part", "pitch", "person"],
        "aabbab",
        ["train", "val", "train", "val", "test", "test"],
        [0, 30, 0, 30, 60, 60],
        "xxyyzz",
    )
    table = read_csv(
        write_csv(pictures / "all.csv", rows),
        path_column="file",
        label_column="breed",
        split_column="part",
        view_column="pitch",
        group_column="person",
    )
    assert table["split"].tolist() == ["train", "val", "train", "val", "test", "test"]
    assert table["view"].tolist() == [0, 30, 0, 30, 60, 60]
    assert "".join(table["group"]) == "xxyyzz" and "".join(table["label"]) == "aabbab"


def test_csv_with_several_labels(pictures: Path) -> None:
    rows = six(["path", "mask", "age"], ["on", "off", "", "", "", ""], ["1", "", "2", "2", "3", ""])
    table = read_csv(write_csv(pictures / "all.csv", rows), label_column=None)
    assert set(table["split"]) == {"train"} and "label" not in table
    assert table["mask"].isna().sum() == 4
    # Labels stay as written: '01' differs from '1', and a missing label makes no '1.0' of '1'.
    rows = six(["path", "code"], ["01", "1", "1.50", "2", "01", ""])
    table = read_csv(write_csv(pictures / "all.csv", rows), label_column=None)
    assert table["code"].tolist()[:5] == ["01", "1", "1.50", "2", "01"]
    parts = six(["path", "mask", "part"], ["on", "off"] * 3, ["train"] * 4 + ["test"] * 2)
    table = read_csv(write_csv(pictures / "p.csv", parts), label_column=None, split_column="part")
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 2


def test_csv_root_and_byte_order_mark(pictures: Path) -> None:
    file = pictures / "tables" / "all.csv"
    file.parent.mkdir()
    lines = ["path,label", *(f"{n}.png,{'ab'[n % 2]}" for n in range(6))]
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    table = read_csv(file, root=pictures / "pics")
    assert table["id"].tolist() == [f"{n}.png" for n in range(6)]


def test_csv_columns_with_reserved_names(pictures: Path) -> None:
    """`id`, `label` and `split` are common names; the columns chosen for these roles win."""
    rows = six(["file", "id", "label", "breed", "split"], range(6), "xxxxxx", "aabbab", ["old"] * 6)
    table = read_csv(
        write_csv(pictures / "all.csv", rows), path_column="file", label_column="breed"
    )
    assert table["id"].tolist() == [f"pics/{n}.png" for n in range(6)]
    assert "".join(table["label"]) == "aabbab"
    assert set(table["split"]) == {"train"} and table.columns.is_unique


def test_csv_labels_that_pandas_reads_as_missing(pictures: Path) -> None:
    rows = six(["path", "label"], ["NA", "NA", "None", "null", "None", "null"])
    table = read_csv(write_csv(pictures / "all.csv", rows))
    assert table["label"].tolist() == ["NA", "NA", "None", "null", "None", "null"]
    assert set(table["split"]) == {"train"}


def test_csv_that_cannot_be_read(pictures: Path, refused: Any) -> None:
    with refused("file=", "nowhere.csv: there is no such file"):
        read_csv(pictures / "nowhere.csv")
    file = pictures / "all.csv"
    for content in (b"", b"path,label\na,b\nc,d,e\n"):
        file.write_bytes(content)
        with refused("all.csv", "cannot be read"):
            read_csv(file)
    write_csv(file, six(["path", "label"], "aabbab"))
    with refused("no column 'file'", "it has path, label"):
        read_csv(file, path_column="file")
    with refused("no column 'pitch'"):
        read_csv(file, view_column="pitch")
    with refused("root=", "nowhere: there is no such folder"):
        read_csv(file, root=pictures / "nowhere")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([*six(["path", "label"], "aabbab")[:-1], ("x.png", "b")], ("1 pictures", "x.png")),
        ([*six(["path", "label"], "aabbab")[:-1], ("", "b")], ("row 7 has no path",)),
        ([*six(["path", "label"], "aabbab"), ("pics/0.png", "a")], ("appear twice", "pics/0.png")),
        (six(["path", "label"], "aaaaaa"), ("only the class 'a'",)),
        (six(["path", "label"], [""] * 6), ("no training picture",)),
    ],
)
def test_csv_with_bad_rows(
    pictures: Path, refused: Any, rows: list[Sequence[Any]], parts: tuple[str, ...]
) -> None:
    with refused(*parts):
        read_csv(write_csv(pictures / "all.csv", rows))


@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (["train"] * 5 + ["valid"], ("unknown split 'valid'", "train, val, test")),
        (["train"] * 4 + ["", "valid"], ("unknown split", "train, val, test")),
        (["train"] * 6, ("'pics/5.png' is a training picture without a label",)),
    ],
)
def test_csv_with_bad_splits(
    pictures: Path, refused: Any, splits: list[str], parts: tuple[str, ...]
) -> None:
    rows = six(["path", "label", "split"], ["a", "a", "b", "b", "a", ""], splits)
    with refused(*parts):
        read_csv(write_csv(pictures / "all.csv", rows), split_column="split")


def test_csv_tells_all_faults_at_once(pictures: Path) -> None:
    rows = [
        *six(["path", "label", "split"], ["a", "a", "b", "c", " ", ""], ["train"] * 6),
        *[(f"no/{n}.png", "a", "train") for n in range(9)],
        ("pics/0.png", "a", "train"),
        ("", "a", "train"),
        ("pics/1.png/x", "a", "tests"),
    ]
    file = write_csv(pictures / "all.csv", rows)
    sentences = faults(lambda: read_csv(file, split_column="split"))
    parts = [
        "row 18 has no path",
        "10 pictures that do not exist, the first is",
        "1 ids appear twice, the first is 'pics/0.png'",
        "unknown split 'tests'",
        "'pics/4.png' is a training picture without a label (2 such: pics/4.png, pics/5.png)",
    ]
    assert len(sentences) == len(parts)
    for part, sentence in zip(parts, sentences, strict=True):
        assert part in sentence and sentence.endswith(".")
    assert "no/1.png, no/2.png, no/3.png, no/4.png, no/5.png and 4 more" in sentences[1]


def test_csv_column_cannot_have_two_roles(pictures: Path, refused: Any) -> None:
    file = write_csv(pictures / "all.csv", six(["path", "label"], "aabbab"))
    with refused("'label'", "twice"):
        read_csv(file, group_column="label")


# --- GroceryStoreDataset

HEADER = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Icon"


@pytest.fixture
def tiny_grocery(tmp_path: Path) -> Path:
    root = tmp_path / "grocery"
    for split in ("train", "val"):
        lines = []
        for fine in range(3):
            for n in range(2):
                name = f"{split}/Fruit/{fine}_{n}.jpg"
                picture(root / name)
                lines.append(f"{name}, {fine}, {fine // 2}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "classes.csv").write_text(
        f"{HEADER}\nGala,0,Apple,0,/x\nLemon Tart,1,Apple,0,/x\nAnjou,2,Pear,1,/x\n"
    )
    return root


def test_grocery_layout(tiny_grocery: Path, tmp_path: Path) -> None:
    table = read_grocery(tiny_grocery)
    assert table["split"].value_counts().to_dict() == {"train": 6, "val": 6}
    assert table["label"].tolist()[:6] == ["Gala"] * 2 + ["Lemon Tart"] * 2 + ["Anjou"] * 2
    assert table["coarse"].tolist()[:6] == ["Apple"] * 4 + ["Pear"] * 2
    assert table["id"].iloc[0] == "train/Fruit/0_0.jpg" and table.index.is_unique
    tiny_grocery.rename(tmp_path / "dataset")  # one level down, as in the public repository
    pd.testing.assert_frame_equal(
        read_grocery(tmp_path).drop(columns="path"), table.drop(columns="path")
    )


def test_grocery_without_its_files(tiny_grocery: Path, tmp_path: Path, refused: Any) -> None:
    with refused("root=", "nowhere: there is no such folder"):
        read_grocery(tmp_path / "nowhere")
    (tiny_grocery / "val.txt").unlink()
    assert set(read_grocery(tiny_grocery)["split"]) == {"train"}
    (tiny_grocery / "classes.csv").rename(tmp_path / "classes.csv")
    with refused("root=", "there is no", "classes.csv"):
        read_grocery(tiny_grocery)
    (tiny_grocery / "train.txt").unlink()
    with refused("root=", "there is no", "train.txt"):
        read_grocery(tiny_grocery)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("train/Fruit/0_0.jpg, 99, 0", ("train.txt", "class id", "train/Fruit/0_0.jpg")),
        ("train/Fruit/0_0.jpg, apple, 0", ("train.txt", "class id")),
        ("train/Fruit/0_0.jpg, 0", ("train.txt", "class id")),
        ("train/Fruit/0_0.jpg, 0, 0, 0", ("train.txt", "cannot be read")),
        ("train/Fruit/9_9.jpg, 0, 0", ("1 pictures that do not exist", "9_9.jpg")),
        (None, ("train.txt has no rows",)),
    ],
)
def test_grocery_with_a_bad_line(
    tiny_grocery: Path, refused: Any, line: str | None, parts: tuple[str, ...]
) -> None:
    file = tiny_grocery / "train.txt"
    lines = file.read_text().splitlines()[1:]
    file.write_text("" if line is None else "\n".join([*lines, line]))
    with refused(*parts):
        read_grocery(tiny_grocery)


def test_grocery_with_other_classes(tiny_grocery: Path, refused: Any) -> None:
    (tiny_grocery / "classes.csv").write_text("name,id\nGala,0\n")
    with refused("classes.csv", "4 columns"):
        read_grocery(tiny_grocery)


def test_grocery_for_real(grocery_root: Path) -> None:
    table = read_grocery(grocery_root)
    counts = table["split"].value_counts()
    assert counts["train"] == 2640 and counts["val"] == 296
    learned = table[table["split"] != "test"]
    assert learned["label"].nunique() == 81
    assert table["id"].is_unique and table["label"].notna().all() and table["coarse"].notna().all()


# --- the table


def test_fingerprint_depends_on_content_not_on_location(tiny_root: Path, own_root: Path) -> None:
    here, there = read_competition(tiny_root), read_competition(own_root)
    assert samples_fingerprint(here) == samples_fingerprint(there)
    relabelled = here.assign(label=here["label"].replace("2", "1"))
    assert samples_fingerprint(here) != samples_fingerprint(relabelled)
    assert samples_fingerprint(here) != samples_fingerprint(here.iloc[:-1])


def test_labels_and_ids_are_composed(tiny_root: Path, refused: Any) -> None:
    """Also those of a reader of one's own."""
    table = read_competition(tiny_root)
    table["label"] = table["label"].replace({"1": "caf\u00e9", "2": "cafe\u0301"})
    table["e\u0301"], table.loc[0, "id"] = range(72), "train/e\u0301"
    checked = check_samples(table, "here")
    assert set(checked["label"]) == {"0", "10", "caf\u00e9"}
    assert checked["id"][0] == "train/\u00e9" and "\u00e9" in checked
    assert checked["path"].tolist() == table["path"].tolist()
    table.loc[0, "id"] = "train/\udcb0.jpg"
    with refused("here: 1 ids are not UTF-8: train/\\udcb0.jpg."):
        check_samples(table, "here")


def test_labels_of_thousands_of_digits_have_an_order() -> None:
    assert sorted(["9" * 5000, "10", "a"], key=natural_key)[0] == "10"


def test_check_samples_resets_the_index(tiny_root: Path) -> None:
    table = read_competition(tiny_root).iloc[::-1]
    assert check_samples(table, "here").index.tolist() == list(range(72))


def test_subset_is_stratified_and_independent_of_row_order() -> None:
    counts = {"a": 60, "b": 30, "c": 10}
    table = pd.DataFrame(
        [
            {"id": f"{c}/{n}", "label": c, "split": "train"}
            for c, m in counts.items()
            for n in range(m)
        ]
        + [{"id": f"test/{n}", "label": None, "split": "test"} for n in range(7)]
    )
    small = take_subset(table, 50, label="label", seed=0)
    learned = small[small["split"] == "train"]
    assert learned["label"].value_counts().to_dict() == {"a": 30, "b": 15, "c": 5}
    assert (small["split"] == "test").sum() == 7
    assert list(small.index) == list(range(57))
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert set(take_subset(shuffled, 50, label="label", seed=0)["id"]) == set(small["id"])
    assert set(take_subset(table, 50, label="label", seed=1)["id"]) != set(small["id"])
    assert set(take_subset(table, 23, label="label", seed=0)["id"]) < set(small["id"])
    least = take_subset(table, 6, label="label", seed=0)
    assert least["label"].value_counts().to_dict() == {"a": 2, "b": 2, "c": 2}
    pd.testing.assert_frame_equal(take_subset(table, 100, label="label", seed=0), table)


def test_subset_is_stratified_by_combinations_of_labels() -> None:
    table = pd.DataFrame(
        [
            {"id": f"{a}{b}{n}", "a": a, "b": b, "split": "train"}
            for a, b, count in (("x", "u", 60), ("x", "v", 30), ("y", None, 10))
            for n in range(count)
        ]
    )
    small = take_subset(table, 50, label=("a", "b"), seed=0)
    assert small.groupby(["a", "b"], dropna=False).size().tolist() == [30, 15, 5]


def test_subset_too_small_for_its_classes(refused: Any, tiny_root: Path) -> None:
    samples = read_competition(tiny_root)
    with refused("limit=3", "too few", "2 pictures of each"):
        take_subset(samples, 3, label="label", seed=0)


def test_a_column_is_one_of_folds_only_if_it_is_set(
    pictures: Path, own_root: Path, refused: Any
) -> None:
    rows = six(["path", "label", "given_fold"], "aabbab", "000000")
    file = write_csv(pictures / "all.csv", rows)
    assert "given_fold" not in read_csv(file)
    assert read_csv(file, fold_column="given_fold")["given_fold"].tolist() == [0] * 6
    file = write_csv(pictures / "all.csv", six(["path", "label", "f"], "aabbab", [""] * 6))
    assert read_csv(file, fold_column="f")["given_fold"].tolist() == [-1] * 6
    write_csv(own_root / "catalogue.csv", [("label", "given_fold"), ("0", "1")])
    with refused("has a column 'given_fold'"):
        read_competition(own_root)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("Fuji,0,Apple,0,/x", "the class id '0' has several names"),
        ("Gala,3,Apple,0,/x", "the class 'Gala' has several ids"),
    ],
)
def test_grocery_with_two_names_of_a_class(
    tiny_grocery: Path, refused: Any, line: str, part: str
) -> None:
    with (tiny_grocery / "classes.csv").open("a") as file:
        file.write(f"{line}\n")
    with refused(part):
        read_grocery(tiny_grocery)
