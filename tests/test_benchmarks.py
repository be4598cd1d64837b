"""Benchmarks: what they refuse; their figures are for people to take."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "common")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A benchmark as a module, its folder on the path as Python has it for a script."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def script(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{name}_benchmark", FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return script


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_its_imports_and_says_what_it_measures(
    load: Callable[[str], ModuleType],
    run_command: Callable[..., Callable[..., tuple[int, str, str]]],
    name: str,
) -> None:
    status, text, _ = run_command(load(name).main)("--help")
    assert status == 0 and f"python benchmarks/{name}.py" in text, text


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
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., Callable[..., tuple[int, str, str]]],
    word: str,
    expected: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    search = load("search")
    monkeypatch.setattr(search, "measure_kinds", lambda *_: pytest.fail())
    status, _, errors = run_command(search.main)(word)
    assert status == 2 and expected in errors and errors.count("\n") == 1, errors
