"""The predict command."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from PIL import Image
from runs_in_process import train

from product_cls.core.device import pick_device
from product_cls.inference.predictions import Predictions
from product_cls.predict import main
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    # A folder named as a sweep names it: paths hold `=` and `,`.
    return train(tmp_path_factory.mktemp("predict") / "fold=0,seed=1", tiny_root)


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def test_folder_gives_csv_and_contact_sheet(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out"
    status, output, _ = command(
        f"checkpoint={run.best_checkpoint}", f"images={tiny_root / 'test'}", f"out={out}", "top=3"
    )
    assert status == 0 and "32 pictures" in output
    table = pd.read_csv(out / "predictions.csv", dtype={"label_1": str}).set_index("image")
    columns = [f"{what}_{k}" for k in (1, 2, 3) for what in ("label", "score")]
    assert table.columns.tolist() == columns
    stored = Predictions.load(run.predictions_file("test"))
    best = dict(zip(stored.id, stored.classes[stored.scores.argmax(1)], strict=True))
    assert all(table.loc[name.removeprefix("test/"), "label_1"] == best[name] for name in best)
    assert (table["score_1"] >= table["score_2"]).all()
    with Image.open(out / "contact_sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10  # pictures on white, not an empty page


def test_csv_and_several_checkpoints(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copy(tiny_root / "test" / "3.jpg", tmp_path / "one.jpg")
    pd.DataFrame({"path": ["one.jpg"]}).to_csv(tmp_path / "list.csv", index=False)
    other = train(tmp_path / "other", tiny_root, "seed=5")
    tables = []
    for name, checkpoints in (
        ("a", f"{run.best_checkpoint}"),
        ("b", f"{other.best_checkpoint}"),
        ("both", f"['{run.best_checkpoint}','{other.best_checkpoint}']"),
    ):
        words = (f"checkpoint={checkpoints}", f"images={tmp_path / 'list.csv'}")
        assert command(*words, f"out={tmp_path / name}")[0] == 0
        tables.append(pd.read_csv(tmp_path / name / "predictions.csv"))
    of_class = [
        {table.at[0, f"label_{k}"]: table.at[0, f"score_{k}"] for k in range(1, 5)}
        for table in tables
    ]
    for label, mean in of_class[2].items():
        assert mean == pytest.approx((of_class[0][label] + of_class[1][label]) / 2, abs=1e-3)
    assert of_class[0] != of_class[1]


def test_model_may_be_a_run_or_a_sweep(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copytree(run.path, tmp_path / "sweep" / "first")
    other = train(tmp_path / "sweep" / "second", tiny_root, "seed=5")
    tables = {}
    for name, words in {
        "checkpoint": (f"checkpoint={run.best_checkpoint}",),
        "run": (f"model={run.path}", "tta=[identity,hflip]"),
        "checkpoints": (f"checkpoint=['{run.best_checkpoint}','{other.best_checkpoint}']",),
        "sweep": (f"model={tmp_path / 'sweep'}", "tta=[identity,hflip]"),
    }.items():
        status, _, errors = command(
            *words, f"images={tiny_root / 'test'}", f"out={tmp_path / name}", "batch_size=5"
        )
        assert status == 0, errors
        tables[name] = pd.read_csv(tmp_path / name / "predictions.csv")
    pd.testing.assert_frame_equal(tables["run"], tables["checkpoint"])
    pd.testing.assert_frame_equal(tables["sweep"], tables["checkpoints"], atol=1e-3)


def test_unreadable_pictures_are_named_and_left_out(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(tiny_root / "test" / "3.jpg", images / "good.jpg")
    whole = (tiny_root / "test" / "4.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    words = (f"checkpoint={run.best_checkpoint}", f"images={images}", f"out={tmp_path / 'out'}")
    status, output, _ = command(*words)
    assert status == 0 and "left out, cannot be decoded: cut.jpg" in output
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["image"].tolist() == ["good.jpg"]
    (images / "good.jpg").unlink()
    status, _, errors = command(*words)
    assert status == 2 and "can be decoded" in errors


def test_odd_names_are_written_whole_and_shown_on_one_line(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    names = ["=1+1.jpg", "a\rb.jpg", "a\nb.jpg", 'say "hi", twice.jpg', "x" * 250 + ".jpg"]
    for name in names:
        shutil.copy(tiny_root / "test" / "3.jpg", images / name)
    words = (f"checkpoint={run.best_checkpoint}", f"images={images}", f"out={tmp_path / 'out'}")
    status, output, errors = command(*words)
    assert status == 0, errors
    assert "a\\rb.jpg" in output and "\r" not in output
    assert "NOTE: a spreadsheet would run 1 of these names as formulas" in output
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert sorted(table["image"]) == sorted(names)
    status, output, _ = command(*words, "csv=excel")
    assert status == 0 and "NOTE" not in output
    content = (tmp_path / "out" / "predictions.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and b"\n\t=1+1.jpg," in content


def test_sheets_show_the_most_doubtful_on_a_screen(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "contact_sheet-9.png").touch()  # of an earlier call
    words = (f"checkpoint={run.best_checkpoint}", f"images={tiny_root / 'test'}", f"out={out}")
    status, output, _ = command(*words)
    sheets = sorted(file.name for file in out.glob("*.png"))
    assert status == 0 and sheets == ["contact_sheet-2.png", "contact_sheet.png"]
    assert "answered by the scores of a network -> " in output
    for name in sheets:
        with Image.open(out / name) as sheet:
            assert sheet.width <= 1600 and sheet.height <= 1000
    assert command(*words, "shown=1", "top=500")[0] == 0
    assert [file.name for file in out.glob("*.png")] == ["contact_sheet.png"]


def test_a_full_disk_is_one_sentence(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command, monkeypatch: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("product_cls.core.files.os.replace", full)
    out = tmp_path / "out"
    words = (f"checkpoint={run.best_checkpoint}", f"images={tiny_root / 'test'}", f"out={out}")
    status, _, errors = command(*words)
    assert status == 2 and errors.count("\n") == 1
    assert "cannot be written to" in errors and "No space left on device" in errors
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("checkpoint=absent.ckpt", "images={data}"), "There is no checkpoint absent.ckpt"),
        (("checkpoint={text}", "images={data}"), "not a product_cls checkpoint: it is"),
        (("checkpoint=[]", "images={data}"), "Give one of checkpoint=FILE and model="),
        (("checkpoint={run}", "images={data}"), " is a run folder, not a checkpoint; model="),
        (("checkpoint={data}", "images={data}"), "is a folder, not a checkpoint; model="),
        (("checkpoint={best}", "images=nowhere"), "There is no folder or file nowhere"),
        (("checkpoint={best}", f"images={'x' * 300}"), "cannot be opened: File name too long"),
        (("checkpoint={best}", "images={data}", "csv=xls"), "csv=xls; allowed: plain, excel"),
        (("checkpoint={best}", "images={data}/train/0/0.jpg", "tta=[flip]"), "tta names 'flip'"),
        (("checkpoint={best}", "images={data}", "top=0"), "top=0; allowed: 1 or more"),
        (("checkpoint={best}", "images={data}/views.csv"), "column 'path' or 'filename'"),
        (("checkpoint={best}", "images={data}", "device=meta"), "device=meta; allowed: auto, cpu"),
        (("checkpoint={best}", "images={data}", "out={text}/x"), "text.ckpt: Not a directory"),
        (("checkpoint={best}",), "Missing: images=..."),
        (("images={data}",), "Give one of checkpoint=FILE and model="),
        (("checkpoint={best}", "model={best}", "images={data}"), "Give one of checkpoint=FILE"),
        (("model=nowhere", "images={data}"), "There is no folder or file nowhere"),
    ],
)
def test_wrong_input_is_one_sentence(
    run: RunFolder,
    tiny_root: Path,
    tmp_path: Path,
    command: Command,
    words: tuple[str, ...],
    expected: str,
) -> None:
    text = tmp_path / "text.ckpt"
    text.write_text("no checkpoint")
    places = {"data": tiny_root, "text": text, "best": run.best_checkpoint, "run": run.path}
    filled = [word.format(**places) for word in words]
    status, _, errors = command(*filled)
    assert status == 2 and expected in errors and errors.count("\n") == 1


def test_devices(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("meta", "cpu:1", "xla", "mps", "cuda:x", "cuda:-1", "gpu", ""):
        with refused(f"device={name}; allowed: auto, cpu, cuda, cuda:<n>"):
            pick_device(name)
    for name in ("cuda", "cuda:0"):
        with refused(f"device={name}: there is no GPU here"):
            pick_device(name)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")
    with refused("device=meta; allowed: auto, cpu, mps, cuda, cuda:<n>"):
        pick_device("meta")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:128", "cuda:999999999999"):
        with refused(f"device={name}: the last GPU here is cuda:1"):
            pick_device(name)


def test_adapted_to_the_pictures(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    views = pd.read_csv(tiny_root / "views.csv")
    (tmp_path / "pictures").mkdir()
    for name in views["id"][views["split"] == "train"]:
        shutil.copy(tiny_root / name, tmp_path / "pictures" / name.replace("/", "-"))
    words = (f"checkpoint={run.best_checkpoint}", f"images={tmp_path / 'pictures'}", "top=4")
    tables = []
    for extra in ((), ("adapt=batchnorm", "adapt_share=0"), ("adapt=batchnorm",)):
        out = tmp_path / f"out{len(tables)}"
        status, _, errors = command(*words, f"out={out}", *extra)
        assert (status, errors) == (0, "")
        tables.append((out / "predictions.csv").read_text())
    assert tables[0] == tables[1] != tables[2]


def test_class_totals_are_respected_in_a_table_of_their_own(
    run: RunFolder, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("label,count\n0,4\n1,0\n2,4\n10,8\n")
    words = (f"checkpoint={run.best_checkpoint}", f"images={tiny_root / 'test'}", "top=1")
    assert command(*words, f"out={tmp_path / 'plain'}")[0] == 0
    status, printed, errors = command(*words, f"out={tmp_path / 'out'}", f"prior={counts}")
    assert (status, errors) == (0, "")
    assert "use them only if they are known beforehand" in printed
    first = (tmp_path / "plain" / "predictions.csv").read_text()
    assert (tmp_path / "out" / "predictions.csv").read_text() == first
    table = pd.read_csv(tmp_path / "out" / "predictions-class-totals.csv")
    assert len(table) == 32 and not table["label_1"].eq(1).any()
    for prior, said in (
        ("estimated", "allowed: uniform, a file, null."),
        (str(tmp_path / "none.csv"), "There is no"),
        (str(tiny_root / "sample.csv"), "column 'label'"),
    ):
        status, _, errors = command(*words, f"out={tmp_path / 'out'}", f"prior={prior}")
        assert status == 2 and said in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["adapt=tent"], "adapt=tent; allowed: batchnorm, infomax, null."),
        (["adapt=batchnorm", "adapt_share=2"], "adapt_share=2.0; allowed: 0 to 1."),
        (["adapt_share=0.5"], "adapt_share=0.5 has no effect without adapt=batchnorm or infomax."),
        (["adapt=batchnorm"], "3.jpg is one picture, and statistics need at least 2."),
    ],
)
def test_what_cannot_be_adapted_is_said(
    words: list[str], said: str, run: RunFolder, tiny_root: Path, command: Command, tmp_path: Path
) -> None:
    picture = tiny_root / "test" / "3.jpg"
    status, _, errors = command(
        f"checkpoint={run.best_checkpoint}", f"images={picture}", f"out={tmp_path / 'out'}", *words
    )
    assert status == 2 and errors.rstrip().endswith(said)
