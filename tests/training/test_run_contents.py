"""A finished run is believed only while pictures and weights are the ones it was trained on."""

import os
import shutil
from pathlib import Path

import cv2
import pytest
from PIL import Image
from runs_in_process import train

from product_cls.runs.folder import RunFolder


def change_in_place(file: Path) -> None:
    """Other pixels under the same name, of the same size in bytes and with the same time."""
    before = file.stat()
    with Image.open(file) as picture:
        content = cv2.imencode(".jpg", 255 - cv2.imread(str(file)))[1].tobytes()
        assert picture.format == "JPEG"
    file.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def trained_at(run: RunFolder) -> int:
    return run.best_checkpoint.stat().st_mtime_ns


def test_pictures_changed_in_place_are_trained_anew(tmp_path: Path, tiny_root: Path) -> None:
    data = shutil.copytree(tiny_root, tmp_path / "data")
    changed = next(iter(sorted(data.rglob("*.jpg"))))
    changed.write_bytes(changed.read_bytes() + bytes(3000))  # room for other pixels
    run = train(tmp_path / "run", data)
    first = trained_at(run)
    train(run.path, data)
    assert trained_at(run) == first
    # The same pictures elsewhere, with other times and an own store.
    copy = shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    train(run.path, copy, f"paths.cache={tmp_path / 'another'}")
    assert trained_at(run) == first
    change_in_place(changed)
    train(run.path, data)
    assert trained_at(run) > first
    assert (run.path / ".replaced" / "metrics.json").is_file()


def test_another_file_of_weights_is_trained_anew(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = [train(tmp_path / f"w{seed}", tiny_root, f"seed={seed}") for seed in (1, 2)]
    file = tmp_path / "weights.ckpt"
    shutil.copyfile(weights[0].best_checkpoint, file)
    run = train(tmp_path / "run", tiny_root, f"model.weights={file}")
    first = trained_at(run)
    moved = shutil.copyfile(file, tmp_path / "moved.ckpt")
    train(run.path, tiny_root, f"model.weights={moved}")
    assert trained_at(run) == first
    shutil.copyfile(weights[1].best_checkpoint, file)
    train(run.path, tiny_root, f"model.weights={file}")
    assert trained_at(run) > first


def test_a_run_of_an_earlier_version_is_not_believed(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root)
    first = trained_at(run)
    run.update_status(fingerprint=run.status()["fingerprint"].partition("-")[0])
    train(run.path, tiny_root)
    assert trained_at(run) > first
    assert (run.path / ".replaced" / "metrics.json").is_file()
