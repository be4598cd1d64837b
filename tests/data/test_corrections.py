"""`data.corrections`: labels and pictures that a person has corrected in a table."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest

from product_cls import api
from product_cls.data.corrections import apply_corrections
from product_cls.training.data_source import build_samples

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def samples() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a.jpg", "b.jpg", "c.jpg", "test/d.jpg", "caf\u00e9.jpg"],
            "path": list("abcde"),
            "split": ["train", "train", "train", "test", "train"],
            "label": ["7", "007", "Cola", None, "7"],
            "brand": ["x", "x", "y", None, "y"],
            "red": [0, 1, 0, 1, 1],
            "view": [0.0, 30.0, 0.0, 60.0, 0.0],
        }
    )


def written(folder: Path, text: str) -> Path:
    file = folder / "corrections.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_cells_replace_labels_and_empty_ones_do_not(
    samples: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = "id,now,label,brand,red,drop,why\na.jpg,7,007,,1,,same shot\nb.jpg,007,,z,,,\n"
    text += "cafe\u0301.jpg,7,,,,yes,\ntest/d.jpg,,Cola,,,,\n"
    before = samples.copy()
    table = apply_corrections(samples, written(tmp_path, text))
    pd.testing.assert_frame_equal(samples, before)
    assert table["id"].tolist() == ["a.jpg", "b.jpg", "c.jpg", "test/d.jpg"]
    assert table["label"].tolist() == ["007", "007", "Cola", "Cola"]
    assert table["brand"].tolist()[:3] == ["x", "z", "y"]
    assert table["red"].tolist() == [1, 1, 0, 1] and table["red"].dtype == samples["red"].dtype
    assert table.index.tolist() == [0, 1, 2, 3]
    assert "1 corrected labels are new: z." in caplog.text
    assert "4 labels changed, 1 pictures left out." in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,label\nx.jpg,7\ny.jpg,7\n", "names 2 pictures that the data set does not have: x.jpg"),
        (
            "id,lable\na.jpg,7\n",
            "has the column 'lable'; allowed: id, label, brand, red, drop, now",
        ),
        ("id,view\na.jpg,7\n", "has the column 'view'; allowed"),
        ("id,why\na.jpg,7\n", "changes nothing: it has no column of label, brand, red, drop."),
        ("id,label\na.jpg,7\na.jpg,8\n", "has the id 'a.jpg' twice."),
        ("id,label\na.jpg,7\n,8\n", "has a line without an id (line 3)."),
        ("id,drop\na.jpg,maybe\n", "drop=maybe; allowed: yes, or an empty cell."),
    ],
)
def test_what_is_refused(
    samples: pd.DataFrame, tmp_path: Path, refused: Refused, text: str, sentence: str
) -> None:
    with refused("corrections=", sentence):
        apply_corrections(samples, written(tmp_path, text))


def test_a_missing_file(samples: pd.DataFrame, refused: Refused) -> None:
    with refused("corrections=nowhere.csv: there is no such file"):
        apply_corrections(samples, Path("nowhere.csv"))


def test_runs_read_corrected_samples(tiny_root: Path, tmp_path: Path) -> None:
    words = ("data=competition", f"data.root={tiny_root}", "data.size=32")
    samples, _ = build_samples(api.compose(*words))
    first, second = samples["id"][samples["split"] == "train"].tolist()[:2]
    other = sorted(set(samples["label"].dropna()) - set(samples["label"][samples["id"] == first]))
    text = f"id,label,drop\n{first},{other[0]},\n{second},,yes\n"
    file = written(tmp_path, text)
    corrected, _ = build_samples(api.compose(*words, f"data.corrections={file}"))
    assert len(corrected) == len(samples) - 1 and second not in set(corrected["id"])
    assert corrected["label"][corrected["id"] == first].tolist() == [other[0]]
