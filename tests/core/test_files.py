"""Atomic file writes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from product_cls.core.files import HOST, storage_sentence, whole_file, write_text_whole


def test_file_appears_whole_and_failure_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "a.txt"
    with whole_file(file) as partial:
        partial.write_text("first")
        assert not file.exists()
    with pytest.raises(ValueError, match="halfway"), whole_file(file) as partial:
        partial.write_text("sec")
        raise ValueError("halfway")
    assert file.read_text() == "first" and [*file.parent.iterdir()] == [file]
    write_text_whole(file, "third")
    assert file.read_text() == "third" and [*file.parent.iterdir()] == [file]


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".a.npz.{HOST}-{ended.pid}.tmp"
    living = tmp_path / f".b.npz.{HOST}-{os.getppid()}.tmp"
    elsewhere, old = tmp_path / ".c.npz.abcdef-1.tmp", tmp_path / ".d.npz.77.tmp"
    own = tmp_path / ".notes.tmp"
    for file in (dead, living, elsewhere, old, own):
        file.touch()
    os.utime(old, (0, 0))
    write_text_whole(tmp_path / "a.txt", "text")
    assert {x.name for x in tmp_path.iterdir()} == {
        "a.txt", living.name, elsewhere.name, own.name
    }  # fmt: skip


def test_what_a_disk_refuses_is_one_sentence() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "a/b.npz")
    assert storage_sentence(full) == (
        "a/b.npz cannot be read or written: the disk is full; free some space and type the same "
        "command again."
    )
    assert storage_sentence(OSError(errno.ECONNREFUSED, "refused")) is None
    assert storage_sentence(OSError("no number")) is None
