"""The letters contest's layout: its sample table, and one sentence for each mistake."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from product_cls.data.label_table import label_columns, read_label_table


def write(file: Path, rows: Iterable[Sequence[Any]]) -> Path:
    file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Training pictures 0 to 3 and test pictures 4 and 5, in shuffled order."""
    for split, numbers in (("train", range(4)), ("test", (4, 5))):
        (tmp_path / split).mkdir()
        for n in numbers:
            Image.new("L", (8, 8), n).save(tmp_path / split / f"{n:05d}.png")
    rows = [("index", "a", "b"), (0, 1, 0), (1, 0, 1), (2, 1, 1), (3, 0, 0)]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "sample_submission.csv", [("index", "a", "b"), (5, 0, 0), (4, 0, 0)])
    return tmp_path


TEST = {"test_file": "sample_submission.csv"}


def test_train_and_test_parts(root: Path) -> None:
    table = read_label_table(root, **TEST)
    assert table["id"].tolist() == [f"train/{n}" for n in range(4)] + ["test/5", "test/4"]
    assert [Path(p).name for p in table["path"]][-2:] == ["00005.png", "00004.png"]
    assert label_columns(table) == ["a", "b"]
    assert table[["a", "b"]][:4].to_numpy().tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert table[["a", "b"]][4:].isna().all().all()
    assert len(read_label_table(root)) == 4


def test_labels_of_the_test_part(root: Path) -> None:
    write(root / "answers.csv", [("index", "b", "a"), (4, 1, 0), (5, 0, 1)])
    table = read_label_table(root, **TEST, answers_file="answers.csv")
    assert table[["a", "b"]][4:].to_numpy().tolist() == [[1, 0], [0, 1]]


def test_an_index_of_file_numbers(root: Path, refused: Any) -> None:
    rows = [("index", "number"), ("p", 3), ("q", 2), ("r", 1), ("s", 0)]
    write(root / "numbers.csv", rows)
    named = [("index", "a", "b"), ("p", 1, 0), ("q", 0, 1), ("r", 1, 1), ("s", 0, 0)]
    write(root / "train.csv", named)
    expected = ["00003.png", "00002.png", "00001.png", "00000.png"]
    table = read_label_table(root, numbers_file="numbers.csv")
    assert [Path(p).name for p in table["path"]] == expected
    assert table["id"].tolist() == ["train/p", "train/q", "train/r", "train/s"]
    columns = [(*row, n) for row, n in zip(named, ("file", 3, 2, 1, 0), strict=True)]
    write(root / "train.csv", columns)
    table = read_label_table(root, number_column="file")
    assert [Path(p).name for p in table["path"]] == expected
    assert label_columns(table) == ["a", "b"]
    write(root / "numbers.csv", rows[:-1])
    with refused("numbers.csv has no row for 's' of train.csv"):
        read_label_table(root, numbers_file="numbers.csv", labels=["a", "b"])
    with refused("train.csv has no column 'nr'"):
        read_label_table(root, number_column="nr")


def test_an_index_of_file_names(root: Path) -> None:
    Image.new("L", (8, 8)).save(root / "train" / "cat.jpg")
    Image.new("L", (8, 8)).save(root / "train" / "dog.jpg")
    write(root / "train.csv", [("file", "a", "b"), ("cat.jpg", 1, 0), ("dog.jpg", 0, 1)])
    table = read_label_table(root, index_column="file", suffix="")
    assert [Path(p).name for p in table["path"]] == ["cat.jpg", "dog.jpg"]


def test_all_faults_at_once(root: Path) -> None:
    write(root / "train.csv", [("index", "a", "b"), (0, 1, 2), (7, 0, 1)])
    write(root / "sample_submission.csv", [("index", "a", "b"), (8, 0, 0)])
    with pytest.raises(ValueError) as caught:
        read_label_table(root, **TEST)
    missing, value, test = str(caught.value).splitlines()
    assert "00007.png" in missing and "'b' holds '2'" in value and "00008.png" in test


def test_suffix_encoding_and_separator(root: Path, refused: Any) -> None:
    for file in root.glob("t*/*.png"):
        file.rename(file.with_suffix(".JPG"))
    with refused("4 pictures that do not exist", "00000.png"):
        read_label_table(root)
    expected = [f"0000{n}.JPG" for n in (0, 1, 2, 3, 5, 4)]
    for suffix in (None, ".JPG", "JPG"):
        table = read_label_table(root, **TEST, suffix=suffix)
        assert [Path(path).name for path in table["path"]] == expected
    for name in ("train.csv", "sample_submission.csv"):
        text = (root / name).read_text().replace(",", ";").replace("a", "사과")
        (root / name).write_bytes(text.encode("cp949"))
    table = read_label_table(root, **TEST, suffix=None, labels=["사과", "b"])
    assert label_columns(table) == ["사과", "b"]
    with refused("encoding=ascii"):
        read_label_table(root, suffix=None, encoding="ascii")


@pytest.mark.parametrize(
    ("file", "rows", "parts"),
    [
        (
            "train.csv",
            [("index", "a", "b"), (0, 1, 2), (1, 0, 1)],
            ["'b' holds '2' (row 1", "0 or 1"],
        ),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), (1, "", 1)], ["'a' holds an empty cell"]),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), (0, 0, 1)], ["names '0' twice"]),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), (1, 1, 1)], ["every training", "label 'a'"]),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), (1, 0, 0)], ["no training", "label 'b'"]),
        ("train.csv", [("nr", "a", "b"), (0, 1, 0)], ["no column 'index'", "nr, a, b"]),
        ("train.csv", [("index",), (0,), (1,)], ["no label column beside 'index'"]),
        ("train.csv", [("index", "view", "b"), (0, 1, 0), (1, 0, 1)], ["called 'view'"]),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), (7, 0, 1)], ["1 pictures", "00007.png"]),
        ("train.csv", [("index", "a", "b"), (0, 1, 0), ("", 0, 1)], ["row 3 has no index"]),
        (
            "sample_submission.csv",
            [("index", "a", "c"), (4, 0, 0)],
            ["column 'c'", "train.csv lacks"],
        ),
        ("sample_submission.csv", [("index", "a", "b"), (6, 0, 0)], ["00006.png"]),
        ("answers.csv", [("index", "a", "b"), (4, 0, 0)], ["answers.csv", "an empty cell"]),
        ("answers.csv", [("index", "a"), (4, 0)], ["answers.csv has no column 'b'"]),
    ],
)
def test_wrong_tables(root: Path, refused: Any, file: str, rows: Any, parts: list[str]) -> None:
    write(root / file, rows)
    answers = "answers.csv" if file == "answers.csv" else None
    with refused(*parts):
        read_label_table(root, **TEST, answers_file=answers)


def test_missing_files_and_columns(root: Path, refused: Any) -> None:
    with refused("root=", "nowhere: there is no such folder"):
        read_label_table(root / "nowhere")
    with refused("train_file=labels.csv: there is no", "labels.csv"):
        read_label_table(root, train_file="labels.csv")
    with refused("There is no folder", "pictures of train.csv"):
        read_label_table(root, train_pictures="pngs")
    with refused("has no column 'c'"):
        read_label_table(root, labels=["a", "b", "c"])
    assert np.isfinite(read_label_table(root, labels=["a", "b"])[["a", "b"]].to_numpy()).all()


def test_a_column_of_folds(root: Path, refused: Any) -> None:
    rows = [("index", "a", "b", "f"), (0, 1, 0, 3), (1, 0, 1, ""), (2, 1, 1, -1), (3, 0, 0, "0.0")]
    write(root / "train.csv", rows)
    table = read_label_table(root, **TEST, fold_column="f")
    assert label_columns(table) == ["a", "b"]
    assert table["given_fold"].tolist() == [3, -1, -1, 0, -1, -1]
    write(root / "train.csv", [*rows[:-1], (3, 0, 0, "x")])
    with refused("column 'f' holds the fold 'x' (row 5)"):
        read_label_table(root, fold_column="f")
    with refused("has no column 'g'"):
        read_label_table(root, fold_column="g")
