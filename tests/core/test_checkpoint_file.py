"""Checkpoint files: whole, or the old one; damage is noticed."""

import errno
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from product_cls.core.checkpoint_file import (
    check_archive,
    first_not_finite,
    read_checkpoint,
    write_checkpoint,
)


def content(value: float) -> dict[str, Any]:
    return {"epoch": 1, "state_dict": {"w": torch.full((64, 8), value), "n": torch.arange(3)}}


def test_a_checkpoint_comes_back_as_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "best.ckpt"
    write_checkpoint(content(1.5), file)
    assert read_checkpoint(file)["state_dict"]["w"].equal(torch.full((64, 8), 1.5))
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("rows", [8, 100_000])  # in the buffer of the file, and beyond it
def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint(content(1.0), file)
    before = file.read_bytes()

    real = Path.open
    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(Path, "open", lambda _, mode: real(Path("/dev/full"), mode))
        write_checkpoint({"state_dict": {"w": torch.ones(rows, 8)}}, file)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert file.read_bytes() == before and [*tmp_path.iterdir()] == [file]


def test_a_disk_that_changes_bytes_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint(content(1.0), file)
    before = file.read_bytes()

    def save(_: Any, stream: Any) -> None:
        stream.write(before[:700] + bytes(8) + before[708:])

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(ValueError, match="damaged"):
        write_checkpoint(content(2.0), file)
    assert file.read_bytes() == before and [*tmp_path.iterdir()] == [file]


def test_flipped_bits_in_weights_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint(content(1.0), file)
    whole = file.read_bytes()
    weights = torch.full((64, 8), 1.0).numpy().tobytes()
    start = whole.index(weights)
    rng = random.Random(0)
    for _ in range(50):
        place = start + rng.randrange(len(weights))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            check_archive(file)


@pytest.mark.parametrize("text", [b"", b"PK", b"not a checkpoint" * 9])
def test_other_files_are_no_checkpoints(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "best.ckpt"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=r"damaged|no checkpoint at all"):
        read_checkpoint(file)
    torch.save([1], file)
    with pytest.raises(ValueError, match="it holds a list"):
        read_checkpoint(file)
    torch.save({"x": Path()}, file)  # code
    with pytest.raises(ValueError, match=r"torch cannot load it \(UnpicklingError\)"):
        read_checkpoint(file)


def test_weights_that_are_not_finite() -> None:
    assert first_not_finite(content(1.0)) is None
    assert first_not_finite(content(float("nan"))) == "w"
    assert first_not_finite(content(float("inf"))) == "w"
