"""Benchmarks: what they refuse; their figures are for people to take."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(
    file.stem for file in FOLDER.glob("*.py") if "guard(main)" in file.read_text(encoding="utf-8")
)


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


def test_without_a_gpu_the_end_to_end_benchmark_asks_for_a_size(
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., Callable[..., tuple[int, str, str]]],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, _, errors = run_command(load("gpu").main)("models=[b1]")
    assert status == 2 and "There is no GPU here" in errors and errors.count("\n") == 1, errors


def test_growth_names_what_outgrows_its_size(load: Callable[[str], ModuleType]) -> None:
    growth = load("growth")
    small, large = {"size": 1000, "cpu s": 1.0}, {"size": 10000, "cpu s": 100.0}
    assert growth.power(small, large, "cpu s", 0.1) == pytest.approx(2)
    # What is too short to be told may be as long as the least: never too large a power.
    assert growth.power({**small, "cpu s": 1e-9}, large, "cpu s", 0.1) == pytest.approx(3)
    assert growth.power(small, {**large, "cpu s": 0.05}, "cpu s", 0.1) is None
    row = {"part": "folds", "of": "pictures", **large, "power": 2.0, "memory power": 0.9}
    assert growth.sentences([row]) == [
        "More than linear: folds, 10,000 pictures: 100.0 s, size^2.00 since the size before."
    ]


@pytest.mark.slow
def test_every_part_of_growth_runs(
    load: Callable[[str], ModuleType], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load("growth")
    parts = sys.modules["growth_parts"]
    for name, prepare in (parts.PICTURES_PARTS | parts.CLASSES_PARTS).items():
        if "report" not in name:  # seconds of figures, which have their own tests
            (tmp_path / name).mkdir()
            prepare(250, tmp_path / name)()


def test_a_changed_number_is_named(load: Callable[[str], ModuleType]) -> None:
    earlier = {"sam": {"weights": "a", "test.npz": "b"}, "ema": {"weights": "c"}}
    differences = load("same_numbers").differences
    assert differences(earlier, earlier) == []
    changed = {"sam": {"weights": "a", "test.npz": "x"}, "ranks": {"weights": "d"}}
    assert differences(earlier, changed) == ["sam: test.npz", "ema: weights", "ranks: weights"]
