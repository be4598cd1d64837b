"""Data sets of the Hugging Face format, from local Parquet files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from product_cls.core.errors import UserError
from product_cls.data.huggingface import read_huggingface

datasets = pytest.importorskip("datasets", reason="datasets is not installed")

NAMES = ["red", "green", "blue"]


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 training, 3 validation and 3 test pictures; those of the test have no label."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=NAMES),
            "camera": datasets.Value("string"),
            "boxes": datasets.Sequence(datasets.Value("float32")),
        }
    )
    for split, count in (("test", 3), ("train", 12), ("validation", 3)):
        photos = [Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)) for _ in range(count)]
        kinds = [-1 if split == "test" else n % 3 for n in range(count)]
        content = {
            "photo": photos,
            "kind": kinds,
            "camera": [f"c{n % 2}" for n in range(count)],
            "boxes": [[0.0]] * count,
        }
        data = datasets.Dataset.from_dict(content, features=features)
        data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def read(parquet: Path, **arguments: object):  # type: ignore[no-untyped-def]
    arguments = {"image_column": "photo", "label_column": "kind", **arguments}
    return read_huggingface(str(parquet), picture_folder=parquet.parent / "pictures", **arguments)  # type: ignore[arg-type]


def test_splits_labels_and_pictures(parquet: Path) -> None:
    table = read(parquet, view_column="camera")
    assert table["split"].tolist() == ["train"] * 12 + ["val"] * 3 + ["test"] * 3
    assert table["label"].tolist()[:4] == ["red", "green", "blue", "red"]
    assert table["label"][15:].isna().all()
    assert table["view"].tolist()[:2] == ["c0", "c1"]
    assert table["id"].tolist()[:2] == ["train/000000", "train/000001"]
    assert "boxes" not in table and table["camera"][0] == "c0"
    picture = Image.open(table["path"][3])
    assert picture.size == (8, 9) and Path(table["path"][3]).suffix == ".png"
    expected = datasets.load_dataset("parquet", data_files=str(next(parquet.glob("train*"))))
    np.testing.assert_array_equal(picture, expected["train"][3]["photo"])


def test_pictures_are_written_once(parquet: Path) -> None:
    first = read(parquet)
    stamps = [Path(path).stat().st_mtime_ns for path in first["path"]]
    second = read(parquet)
    assert [Path(path).stat().st_mtime_ns for path in second["path"]] == stamps
    assert first.equals(second)


def test_splits_by_other_names(parquet: Path) -> None:
    (file,) = parquet.glob("validation*")
    file.rename(parquet / "holdout-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"'holdout' is no usual name; say what they are, as"):
        read(parquet)
    table = read(parquet, splits={"train": "train", "holdout": "test"})
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 3}


def test_one_file_is_the_training_part(parquet: Path) -> None:
    table = read(next(parquet.glob("train*")), image_column="photo")
    assert table["split"].unique().tolist() == ["train"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"label_column": "sort"}, r"label_column=sort is no column of split 'train'"),
        ({"image_column": "kind"}, r"data\.image_column=kind of .* holds no pictures"),
        (
            {"image_column": "camera"},
            r"image_column=camera: picture 0 is the file 'c0', which does",
        ),
        ({"splits": {"nosuch": "train"}}, r"splits names 'nosuch', and .* has the splits test, "),
        ({"splits": {"train": "all"}}, r"splits\.train=all; allowed: train, val, test\."),
    ],
)
def test_refused(parquet: Path, arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises((ValueError, UserError), match=sentence):
        read(parquet, **arguments)


def test_a_data_set_that_is_out_of_reach(tmp_path: Path, parquet: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no Parquet file; allowed"):
        read(tmp_path / "empty")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"bad\.parquet cannot be read as a data set"):
        read(tmp_path / "bad.parquet")
