"""Benchmarks: what they refuse; their figures are for people to take."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SEARCH = Path(__file__).parents[1] / "benchmarks" / "search.py"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_benchmark", SEARCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("device=foo", "device=foo; allowed: auto, cpu"),
        ("device=cuda", "device=cuda: there is no GPU here"),
        ("kinds=[tree]", "kinds has tree; allowed: exact"),
        ("k=0", "k=0; allowed: 1 or more"),
    ],
)
def test_wrong_input_is_one_sentence(
    search: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., Callable[..., tuple[int, str, str]]],
    word: str,
    expected: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(search, "measure_kinds", lambda *_: pytest.fail())
    status, _, errors = run_command(search.main)(word)
    assert status == 2 and expected in errors and errors.count("\n") == 1, errors
