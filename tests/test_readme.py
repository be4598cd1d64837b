"""README's commands and Python run, in a temporary folder and at a tiny size."""

import importlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from doc_blocks import ROOT, blocks, commands
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import product_cls
from product_cls.__main__ import COMMANDS
from product_cls.config.compose import compose_run

README = ROOT / "README.md"
# What makes a run tiny: one epoch of a network that takes milliseconds.
TINY = {
    "model": "tiny",
    "data.size": "32",
    "data.batch_size": "8",
    "trainer.max_epochs": "1",
    "trainer.accelerator": "cpu",
    "tta": "[identity]",
    "folds.n_splits": "2",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """The folder in which README's blocks run, one after another: the files that they name."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "PICTURES").symlink_to(tiny_root / "train")
    (folder / "NEW_PICTURES").symlink_to(tiny_root / "test")
    pictures = sorted((tiny_root / "train").rglob("*.jpg"))
    rows = [{"filename": str(file), "sku": file.parent.name} for file in pictures]
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    for name, file in zip(("a.jpg", "b.jpg"), pictures, strict=False):
        (folder / name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def tiny(words: list[str], tiny_root: Path) -> list[str]:
    """The words of `product-cls train`, made tiny; README's two sizes stay two networks."""
    keys = {word.partition("=")[0] for word in words}
    sizes = {"data": "competition", "data.root": str(tiny_root)} | TINY
    if "model=lite1" in words:
        sizes["model.backbone"] = "test_resnet"
    kept = [word for word in words if not word.startswith(("model=", "hydra."))]
    return kept + [f"{key}={size}" for key, size in sizes.items() if key not in keys - {"model"}]


def train(words: list[str], tiny_root: Path) -> None:
    """Run a sweep's jobs in the folders that the command uses, with two values of a key at most."""
    overrides = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()][:2]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in overrides
    ]
    for job in product(*choices):
        folder = compose_run(job).folder  # without what makes the run tiny
        product_cls.train(product_cls.compose(*tiny(list(job), tiny_root)), folder=folder)


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 170


def test_commands_run(tiny_root: Path, run_command: Callable[..., Any], home: Path) -> None:
    """Every training, ensemble, prediction and report of README, in its order."""
    ran = []
    for command in commands(README):
        program, *words = command.words
        if program != "product-cls" or "..." in words:
            continue
        name, *rest = words
        if name == "train":
            train(rest, tiny_root)
        elif name in ("ensemble", "predict", "report") and rest:
            main = importlib.import_module(COMMANDS[name][0]).main
            status, _, errors = run_command(main)(*rest)
            assert status == 0, (command, errors)
        else:
            continue  # named in the text; test_docs.py checks its words
        ran.append(name)
    assert {"train", "ensemble", "predict", "report"} <= set(ran)
    assert (home / "multirun/quickstart/ensemble/submission.csv").is_file()
    assert (home / "multirun/sizes/report/report.html").is_file()
    assert (home / "predictions/predictions.csv").is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/guides/python-api.md"])
def test_python_runs(page: str, home: Path) -> None:
    """The lines after the quickstart, as typed, but for the network and its sizes."""
    text = "".join(text for _, text in blocks(ROOT / page, "python"))
    picture = Image.open(home / "a.jpg").convert("RGB")
    names: dict[str, Any] = {"pil_image": picture, "array": np.asarray(picture)}
    small = ", ".join(f'"{key}={value}"' for key, value in TINY.items())
    exec(text.replace('"model=lite0"', small), names)
    assert len(names["answers"]) == 3
    assert names["vectors"].dtype == np.float32 and len(names["vectors"]) == 2
    assert 0 <= names["run"].metrics["val"]["accuracy"] <= 1
