"""`product-cls check`: planted faults are found, clean pictures are not, and files help."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from product_cls.audit.__main__ import main
from product_cls.audit.copies import agreement
from product_cls.audit.grouping import propose_groups

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]


def picture(seed: int, side: int = 96) -> np.ndarray:
    """A pattern of its own, with edges."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)


def save(pixels: np.ndarray, file: Path, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return file


def near(pixels: np.ndarray) -> np.ndarray:
    """Cropped, scaled and brightened."""
    cut = pixels[2:-3, 3:-1]
    cut = cv2.resize(cut, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    return (cut * 0.95 + 6).clip(0, 255).astype(np.uint8)


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of eight pictures."""
    for n in range(24):
        save(picture(n), tmp_path / "data" / "train" / "abc"[n // 8] / f"{n}.jpg", quality=92)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def words(data: Path, *more: str) -> tuple[str, ...]:
    test = (f"data.test={data / 'test'}",) if (data / "test").exists() else ()
    return ("data=folder", f"data.root={data / 'train'}", *test, *more)


def findings(data: Path, run_command: Command, *more: str) -> tuple[int, str, pd.DataFrame, Path]:
    status, output, errors = run_command(main)(*words(data, *more))
    assert errors == ""
    (out,) = (Path("multirun") / "check").iterdir()
    table = pd.read_csv(out / "findings.csv", dtype=str, keep_default_na=False)
    return status, output, table, out


def test_clean_pictures_have_no_findings(clean: Path, run_command: Command) -> None:
    status, output, table, out = findings(clean, run_command)
    assert status == 0 and table.empty
    assert "24 pictures of 3 classes: 0 errors, 0 warnings, 0 notes." in output
    assert "Nothing was found." in (out / "report.html").read_text()
    assert sorted(p.name for p in out.iterdir()) == [
        "classes.csv",
        "corrections.csv",
        "findings.csv",
        "report.html",
    ]


def test_planted_faults_are_found(clean: Path, run_command: Command) -> None:
    train, test = clean / "train", clean / "test"
    shutil.copyfile(train / "a" / "0.jpg", train / "a" / "same.jpg")
    save(near(picture(1)), train / "a" / "near.jpg", quality=60)
    save(near(picture(2)), train / "b" / "wrong.jpg", quality=60)
    save(near(picture(3)), test / "leak.jpg", quality=60)
    save(picture(100), test / "new.jpg")
    (train / "c" / "broken.jpg").write_bytes((train / "c" / "20.jpg").read_bytes()[:700])
    save(cv2.GaussianBlur(picture(30), (0, 0), 9), train / "c" / "blurred.jpg")
    save(picture(31, 20), train / "c" / "tiny.jpg")
    save(np.tile(picture(32), (1, 4, 1)), train / "c" / "long.jpg")
    Image.fromarray(picture(33)).convert("CMYK").save(train / "c" / "printed.jpg")
    Image.fromarray(picture(34)).convert("L").save(train / "c" / "grey.jpg")
    status, output, table, out = findings(clean, run_command)
    assert status == 1
    found = {
        (kind, *sorted(filter(None, (Path(one).name, Path(other).name if other else ""))))
        for kind, one, other in table[["finding", "id", "other"]].itertuples(index=False)
    }
    assert found == {
        ("unreadable", "broken.jpg"),
        ("contradiction", "2.jpg", "wrong.jpg"),
        ("leak", "3.jpg", "leak.jpg"),
        ("copy", "0.jpg", "same.jpg"),
        ("copy", "1.jpg", "near.jpg"),
        ("tiny", "tiny.jpg"),
        ("blurred", "blurred.jpg"),
        ("elongated", "long.jpg"),
        ("mode", "printed.jpg"),
        ("grey", "grey.jpg"),
    }
    assert "error: The same shot under different labels: " in output and "'a' and 'b'" in output
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 12 and f"folds.file={out}/folds.csv" in page
    # Groups join the copies, and no fold separates them.
    groups = pd.read_csv(out / "groups.csv", dtype=str)
    group = groups.set_index(groups["id"].map(lambda name: Path(name).name))["group"]
    assert group["0.jpg"] == group["same.jpg"] and group["1.jpg"] == group["near.jpg"]
    assert group["2.jpg"] != group["4.jpg"]
    assert not (out / "folds.csv").exists() or "fold" in (out / "folds.csv").read_text()


def test_folds_keep_copies_together_and_train_reads_them(
    clean: Path, run_command: Command, tmp_path: Path
) -> None:
    for n in (0, 1, 8, 9, 16, 17):
        label = "abc"[n // 8]
        save(near(picture(n)), clean / "train" / label / f"{n}b.jpg", quality=70)
    status, _, table, out = findings(clean, run_command, "folds.n_splits=3")
    assert status == 0 and set(table["finding"]) == {"copy"} and len(table) == 6
    folds = pd.read_csv(out / "folds.csv")
    fold = folds.set_index(folds["id"].map(lambda name: Path(name).stem))["fold"]
    assert set(fold) == {0, 1, 2}
    for n in (0, 1, 8, 9, 16, 17):
        assert fold[str(n)] == fold[f"{n}b"]
    from product_cls import api
    from product_cls.training.data_source import build_folds, build_samples

    config = api.compose(*words(clean), f"folds.file={out / 'folds.csv'}", "fold=2")
    samples, task = build_samples(config)
    read, number = build_folds(config, samples, task)
    assert number == 2 and read.tolist() == folds.set_index("id")["fold"][read.index].tolist()


def test_labels_and_names(clean: Path, run_command: Command) -> None:
    train = clean / "train"
    for n, label in enumerate(("007", "7", "Cola", "cola ", "1e5", "alone")):
        for k in range(1 if label == "alone" else 5):
            save(picture(200 + 10 * n + k), train / label / f"{label.strip()}-{n}-{k}.jpg")
    save(picture(300), train / "a" / "X.jpg")
    save(picture(301), train / "a" / "x.jpg")
    status, output, table, _ = findings(clean, run_command)
    assert status == 1
    texts = dict(zip(table["finding"], table["text"], strict=True))
    assert texts["same_number"] == "'007' = '7'"
    assert texts["spelling"] in ("'Cola' = 'cola '", "'Cola' = 'cola'")
    assert texts["single"] == "'alone'"
    assert "1e5" in texts["number_label"] and "007" in texts["number_label"]
    assert "X.jpg" in texts["file_name"]
    assert "small_class" not in texts
    assert "errors" in output


def test_too_few_pictures_for_the_folds(clean: Path, run_command: Command) -> None:
    _, _, table, _ = findings(clean, run_command, "folds.n_splits=9")
    assert table["finding"].tolist() == ["small_class"] * 3
    assert table["text"][0] == "'a': 8 pictures, 9 folds"


def test_a_burst_shares_a_group(clean: Path, run_command: Command) -> None:
    for n, second in enumerate((10, 12, 40)):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2026:05:01 12:30:{second}"
        save(picture(400 + n), clean / "train" / "a" / f"shot{n}.jpg", exif=exif)
    status, _, table, out = findings(clean, run_command)
    assert status == 0
    assert table["finding"].tolist() == ["burst"] and table["text"][0] == "2 pictures in 2 s"
    groups = pd.read_csv(out / "groups.csv", dtype=str)
    group = groups.set_index(groups["id"].map(lambda name: Path(name).name))["group"]
    assert group["shot0.jpg"] == group["shot1.jpg"] != group["shot2.jpg"]


@pytest.mark.parametrize("word", ["fold=1", "-m", "experiment=gap", "name=x"])
def test_words_without_meaning(word: str, clean: Path, run_command: Command) -> None:
    status, _, errors = run_command(main)(*words(clean), word)
    assert status == 2
    assert errors == (
        f"error: check looks at the data alone and takes no {word}; `product-cls train` takes it.\n"
    )


def test_an_empty_folder_is_one_sentence(clean: Path, run_command: Command) -> None:
    (clean / "none").mkdir()
    status, _, errors = run_command(main)("data=folder", f"data.root={clean / 'none'}")
    assert status == 2 and errors.count("\n") == 1 and "holds no folders" in errors


def test_agreement_of_copies_and_of_others() -> None:
    one = picture(1)
    assert agreement(one, near(one)) > 0.97
    assert agreement(one, picture(2)) == 0
    changed = one.copy()
    changed[30:50, 30:60] = 255 - changed[30:50, 30:60]  # another label on the same bottle
    assert agreement(one, changed) == 0
    assert agreement(one, np.full_like(one, 128)) == 0


def test_groups_join_pairs_bursts_and_given_groups() -> None:
    taken = np.array([np.nan, 10.0, 12.0, 11.0, np.nan, np.nan])
    folder = ["a", "a", "a", "b", "b", "b"]
    assert propose_groups(6, [(0, 4)], folder, taken).tolist() == [0, 1, 1, 3, 0, 5]
    given = ["x", "y", "z", "y", "w", "x"]
    assert propose_groups(6, [], folder, taken, given).tolist() == [0, 1, 1, 1, 4, 0]
