"""Warnings about labels written in two ways, and about copied pictures."""

from pathlib import Path

import pandas as pd
import pytest

from product_cls.data.suspicions import copied_pictures, similar_labels, suspicions


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["a", "b", "1", "10"], []),
        (["a", " a", "a ", "b"], ["' a' = 'a' = 'a '"]),
        (["Cola", "cola", "COLA light", "cola  light"], ["'Cola' = 'cola'", "'COLA light' ="]),
        (["a b", "ab", "a\u00a0b"], ["= 'ab'", "'a\\xa0b'"]),
        (["a\u200b", "a", "\ufeffa"], ["'a\\u200b'", "'\\ufeffa'"]),
    ],
)
def test_labels_that_differ_by_white_space_or_case(labels: list[str], groups: list[str]) -> None:
    sentences = similar_labels(labels)
    assert len(sentences) == bool(groups)
    for group in groups:
        assert group in sentences[0]


def table(folder: Path, contents: dict[str, tuple[bytes, str | None]]) -> pd.DataFrame:
    rows = []
    for name, (content, label) in contents.items():
        path = folder / name.replace("/", "-")
        path.write_bytes(content)
        rows.append((name, str(path), name.partition("/")[0], label))
    return pd.DataFrame(rows, columns=["id", "path", "split", "label"])


def test_copies_in_training_and_test_and_under_two_labels(tmp_path: Path) -> None:
    end = b"e" * 5000
    samples = table(
        tmp_path,
        {
            "train/1": (b"1" + end, "a"),
            "train/2": (b"1" + end, "a"),  # the same part and label: no fault
            "train/3": (b"3" + end, "a"),
            "train/4": (b"3" + end, "b"),
            "train/5": (b"5" + end, "b"),  # as long as the others, with the same end
            "train/6": (b"", "a"),
            "test/1": (b"1" + end, None),
            "test/6": (b"", None),  # empty files are unreadable pictures
            "val/5": (b"5" + end, "b"),
        },
    )
    copies, labels = copied_pictures(samples, "label")
    assert "2 pictures are identical in training and in validation or test" in copies
    assert "train/1 = test/1, train/5 = val/5." in copies
    assert labels == "1 identical pictures have different labels: train/3 ('a') = train/4 ('b')."
    assert copied_pictures(samples.query("split == 'train' and id != 'train/4'"), "label") == []


def test_several_label_columns(tmp_path: Path) -> None:
    samples = table(tmp_path, {f"train/{n}": (b"same", "a") for n in range(2)})
    samples = samples.assign(colour=["red", "Red"], one=[1, 0], two=[0, 1])
    assert len(suspicions(samples, "label")) == 0
    spelling, copies = suspicions(samples, ("label", "colour"))
    assert "'Red' = 'red'" in spelling and "1 identical pictures" in copies
    (copies,) = suspicions(samples, ["one", "two"])
    assert "train/0 ('1 0') = train/1 ('0 1')" in copies


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    samples = table(tmp_path, {"train/1": (b"x", "a"), "test/1": (b"x", None)})
    Path(samples["path"][1]).unlink()
    assert copied_pictures(samples, "label") == []
