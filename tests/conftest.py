"""Tiny data that all tests share, and an environment without network access."""

import csv
import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

# huggingface_hub reads this when it is imported, before any fixture runs.
os.environ["HF_HUB_OFFLINE"] = "1"
# For torch, here and in processes that tests start. Tiny networks gain nothing from a second
# thread, and on a busy machine waiting threads make them ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# In the background of a script, SIGINT is ignored, and processes that tests start would inherit
# that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import fuzzing
import numpy as np
import pytest
import torch
from PIL import Image

from product_cls.core.cli import guard

LABELS = ("0", "1", "2", "10")
SIDE = 32


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints how many inputs the fuzz tests have tried, in all worker processes together."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [item for report in reports for item in getattr(report, "user_properties", ())]
    if counts := [count for name, count in properties if name == "fuzz inputs"]:
        terminalreporter.write_line(f"Fuzz tests: {sum(counts)} inputs.")


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Counts the inputs of a fuzz test for the summary."""
    before = fuzzing.tried
    yield
    record_property("fuzz inputs", fuzzing.tried - before)


@pytest.fixture
def nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder is an empty one and stays empty, whatever a file says."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert not list(here.iterdir())


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Random numbers from torch do not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    """Removes log handlers that a launcher added, whose output is closed after the test."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before


@pytest.fixture(autouse=True)
def offline(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """W&B writes to a temporary folder; W&B and Hugging Face stay offline."""
    folder = tmp_path_factory.getbasetemp() / "wandb"
    folder.mkdir(exist_ok=True)
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield


Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def refused() -> Refused:
    """``with refused("part", ...)``: a ValueError whose one sentence holds all the parts."""

    @contextmanager
    def check(*parts: str) -> Iterator[None]:
        with pytest.raises(ValueError) as caught:
            yield
        text = str(caught.value)
        assert "\n" not in text
        assert text.endswith((".", "?")) and not text.endswith(".."), text
        for part in parts:
            assert part in text, text

    return check


def draw_product(kind: int, shift: int, rng: np.random.Generator) -> Image.Image:
    """Stripes whose direction and colour tell the class, with noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = (x + shift, y + shift, x + y + shift, x - y + shift)[kind] // 4 % 2
    colour = np.array([(220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 40)][kind])
    pixels = 30 + wave[..., None] * (colour - 30) + rng.normal(0, 12, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition's layout: classes 0, 1, 2, 10; 10 training and 8 test pictures of each.

    Training pitches are 0 and 30, test pitches 0, 30 and 60; the files are not to be changed.
    """
    root = tmp_path_factory.mktemp("tiny") / "data"
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str, int, int, str]] = []
    for kind, label in enumerate(LABELS):
        (root / "train" / label).mkdir(parents=True)
        for n in range(10):
            draw_product(kind, n, rng).save(root / "train" / label / f"{n}.jpg", quality=95)
            rows.append((f"train/{label}/{n}.jpg", label, 36 * n, 30 * (n % 2), "train"))
    (root / "test").mkdir()
    names = [str(n) for n in range(8 * len(LABELS))]
    random.Random(0).shuffle(names)  # so that neither name nor order tells the class
    for position, name in enumerate(names):
        kind, n = divmod(position, 8)
        draw_product(kind, n, rng).save(root / "test" / f"{name}.jpg", quality=95)
        rows.append((f"test/{name}.jpg", LABELS[kind], 45 * n, 30 * (n % 3), "test"))
    random.Random(1).shuffle(names)
    with (root / "sample.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "prediction"), *((f"{n}.jpg", 0) for n in names)])
    with (root / "views.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label", "roll", "pitch", "split"), *rows])
    return root


@pytest.fixture(scope="session")
def grocery_root() -> Path:
    """GroceryStoreDataset, in the folder that the environment variable GROCERY_ROOT names."""
    if not (root := os.environ.get("GROCERY_ROOT")):
        pytest.skip("GROCERY_ROOT is not set: no GroceryStoreDataset to read")
    return Path(root)


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]:
    """Calls a `python -m ...` command in this process: words -> exit status, output, errors."""

    def prepare(main: Callable[[], None]) -> Callable[..., tuple[int, str, str]]:
        def call(*words: str) -> tuple[int, str, str]:
            monkeypatch.setattr("sys.argv", ["command", *words])
            try:
                guard(main)
                status = 0
            except SystemExit as error:
                status = int(str(error.code))
            return status, *capsys.readouterr()

        return call

    return prepare


@pytest.fixture
def composed() -> Callable[..., dict[str, Any]]:
    """Overrides -> the config that `python train.py` composes, in plain containers."""
    from omegaconf import OmegaConf

    from product_cls.config.compose import compose_config

    def plain(*overrides: str) -> dict[str, Any]:
        return dict(OmegaConf.to_container(compose_config(overrides)))  # type: ignore[arg-type]

    return plain
