"""Fuzz tests run in an empty folder, and tell how many inputs they have tried."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fuzzing
import pytest


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    before = fuzzing.tried
    yield
    record_property("fuzz inputs", fuzzing.tried - before)


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder stays empty, whatever a file says."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert not list(here.iterdir())
