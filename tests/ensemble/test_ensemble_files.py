"""Bad run folders beside good ones, and the files that an ensemble writes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweeps import folder_of, write_ablation

from product_cls.ensemble.__main__ import main
from product_cls.ensemble.blend_folders import blend_folders
from product_cls.inference.predictions import Predictions

Command = Callable[..., tuple[int, str, str]]
ROWS: dict[tuple[str, ...], float] = {(): 0.0, ("blur",): 0.0}


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Six runs, whose products are numbers with leading zeros."""
    root = write_ablation(tmp_path / "a", ROWS, products=8, pictures=3)
    for folder in (folder_of(root, row, seed) for row in ROWS for seed in range(3)):
        folder.config_file.write_text(folder.config_file.read_text() + "model: {backbone: b0}\n")
        file = folder.predictions_file("test")
        whole = Predictions.load(file)
        names = [f"00{k}" for k in range(8)]
        task = whole.task | {"classes": names}
        Predictions(**vars(whole) | {"classes": np.array(names), "task": task}).save(file)
    return root


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"scores.npy") + 300] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda f: flip(f / "predictions" / "test.npz"),
    "empty npz": lambda f: (f / "predictions" / "test.npz").write_bytes(b""),
    "no predictions": lambda f: (f / "predictions" / "test.npz").unlink(),
    "a folder": lambda f: ((f / "config.yaml").unlink(), (f / "config.yaml").mkdir()),
    "no config": lambda f: (f / "config.yaml").write_text("[1, 2]"),
    "no backbone": lambda f: (f / "config.yaml").write_text("model: 3"),
    "status": lambda f: (f / "status.json").write_text("[1, 2]"),
    "gallery": lambda f: np.savez(f / "predictions" / "gallery.npz", id=np.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_folder_is_named_and_left_out(damage: str, sweep: Path, command: Command) -> None:
    bad = folder_of(sweep, ("blur",), 1).path
    files = [file for file in sweep.glob("*/predictions/test.npz") if file.parent.parent != bad]
    expected = np.mean([Predictions.load(file).scores for file in files], axis=0)
    DAMAGES[damage](bad)
    status, output, errors = command(f"runs={sweep}")
    assert (status, errors) == (0, "")
    assert f"LEFT OUT: {bad.name} " in output and "Blended: 5 of 6 runs." in output
    assert output.count("LEFT OUT") == 1
    assert "│ exclude=[blur],seed=0 " in output  # not taken for markup
    text = (sweep / "ensemble" / "table.md").read_text()
    assert bad.name in text and "Blended: 5 of 6 runs." in text and "ensemble of 5 runs" in text
    scores = Predictions.load(sweep / "ensemble" / "predictions" / "test.npz").scores
    assert scores == pytest.approx(expected, abs=1e-6)


def test_predictions_are_written_as_a_table_too(sweep: Path, command: Command) -> None:
    command(f"runs={sweep}", "csv=excel")
    out = sweep / "ensemble"
    arrays = Predictions.load(out / "predictions" / "test.npz")
    file = out / "predictions" / "test.csv"
    table = pd.read_csv(file, dtype=str, encoding="utf-8-sig")
    columns = [f"{name}_{k}" for k in (1, 2, 3) for name in ("label", "score")]
    assert table.columns.tolist() == ["id", "view", "label", "prediction", *columns]
    assert table["id"].tolist() == arrays.id.tolist()
    best = arrays.scores.argmax(axis=1)
    assert table["prediction"].tolist() == [f"\t00{k}" for k in best]  # keeps its zeros
    assert table["label"].tolist() == [f"\t00{k}" for k in arrays.target]
    scores = table["score_1"].astype(float).to_numpy()
    assert scores == pytest.approx(arrays.scores.max(axis=1), abs=1e-4)
    for written in (file, out / "table.csv"):
        assert written.read_bytes().startswith(b"\xef\xbb\xbf")  # spreadsheets then read UTF-8
    status, _, errors = command(f"runs={sweep}", "csv=exel")
    assert status == 2 and errors == "error: csv=exel; allowed: plain, excel.\n"


def test_a_full_disk_is_one_sentence(
    sweep: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("product_cls.core.files.os.replace", full)
    status, _, errors = command(f"runs={sweep}")
    assert status == 2
    expected = f"The results cannot be written to {sweep}/ensemble: No space left on device"
    assert errors == f"error: {expected}; files that are there are whole.\n"
    assert not list((sweep / "ensemble").rglob(".*.tmp"))


def test_the_only_run_is_bad(sweep: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(folder_of(sweep, (), 0).path, tmp_path / "alone")
    (alone / "predictions" / "test.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"No run in .*alone can be blended: alone cannot be used"):
        blend_folders([alone])
