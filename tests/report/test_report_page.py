"""The report command and its files."""

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic_sweeps import EFFECTS, folder_of, write_ablation

from product_cls.report.__main__ import main
from product_cls.report.confusions import worst_pairs
from product_cls.report.experiment import read_experiment
from product_cls.runs.folder import find_runs

Command = Callable[..., tuple[int, str, str]]
FIVE = {row: EFFECTS[row] for row in list(EFFECTS)[:5]}
FILES = ("table.md", "table.csv", "plot.png", "report.html")
VOID = {"meta", "img", "br"}


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Five rows x three seeds on real pictures, two jobs not done; not to be changed."""
    root = write_ablation(tmp_path_factory.mktemp("page") / "ablation", FIVE, data=tiny_root)
    shutil.rmtree(folder_of(root, ("rotate",), 2).path)
    folder_of(root, ("mixup",), 1).update_status(state="failed", error="<b>No space</b> & more.")
    return root


class Checked(HTMLParser):
    """Fails on tags that are not closed in order, and collects the addresses on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_files_and_their_numbers(sweep: Path, tmp_path: Path, command: Command) -> None:
    status, output, errors = command(f"runs={sweep}", f"out={tmp_path}")
    assert (status, errors) == (0, "")
    assert "NOTE: rotate: 2 of 3 runs; seed=2 missing: no run folder." in output
    assert "NOTE: mixup: 2 of 3 runs; seed=1 failed: <b>No space</b> & more." in output
    assert all(str(tmp_path / name) in output.replace("\n", "") for name in FILES)
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["row"].tolist() == ["nothing", "mixup and cutmix", "cutmix", "rotate", "mixup"]
    accuracies = [
        folder_of(sweep, ("cutmix",), seed).metrics()["test"]["accuracy"] for seed in range(3)
    ]
    assert table["accuracy"][2] == pytest.approx(100 * np.mean(accuracies), abs=1e-4)
    assert table["sd"][2] == pytest.approx(100 * np.std(accuracies, ddof=1), abs=1e-4)
    assert table["published_difference"][1] == pytest.approx(-9.947)
    assert table["runs"].tolist() == [3, 3, 3, 2, 2]
    text = (tmp_path / "table.md").read_text()
    assert "13 of 15 runs finished; 2026-01-02; cpu." in text
    assert "- rotate: 2 of 3 runs; seed=2 missing" in text
    assert "Kendall's tau" in text and "| 2 of 3 |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:7]}) == 1


def test_the_page_is_self_contained(sweep: Path, tmp_path: Path, command: Command) -> None:
    command(f"runs={sweep}", f"out={tmp_path}")
    text = (tmp_path / "report.html").read_text()
    page = Checked()
    page.feed(text)
    assert not page.open
    assert len(page.sources) > 10 and all(src.startswith("data:image/") for src in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "&lt;b&gt;No space&lt;/b&gt; &amp; more" in text and "<b>No space" not in text
    for title in ("Result", "By view", "Learning curves", "Products most often", "What was run"):
        assert f"<h2>{title}" in text
    assert text.index("2 of 3 runs") < text.index("<h2>Result")
    # Three pictures per pair: the misclassified picture and one of each product.
    assert text.count("data:image/jpeg") == 3 * text.count('class="pair"')
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > 1500 and np.asarray(plot.convert("L")).std() > 5


def test_equal_runs_give_equal_bytes(sweep: Path, tmp_path: Path, command: Command) -> None:
    command(f"runs={sweep}", f"out={tmp_path / 'one'}")
    command(f"runs={sweep}", f"out={tmp_path / 'two'}")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_damaged_curves_and_settings_do_not_end_a_report(
    sweep: Path, tmp_path: Path, command: Command
) -> None:
    copy = shutil.copytree(sweep, tmp_path / "copy")
    for run in find_runs(copy):
        run.curves_file.write_text("epoch,val/accuracy\nfirst,0.5\n2,much\n")
        run.config_file.write_bytes(b"\xff" + run.config_file.read_bytes())
    status, output, errors = command(f"runs={copy}", f"out={tmp_path / 'out'}")
    assert status == 0 and "No learning curves" in output, errors
    assert (tmp_path / "out" / "report.html").is_file()


def test_default_folder_is_not_taken_for_a_run(tmp_path: Path, command: Command) -> None:
    root = write_ablation(tmp_path / "a", {(): 0.0, ("blur",): 0.0}, products=4, pictures=6)
    for _ in range(2):
        status, output, _ = command(f"runs={root}", "tta=false", "published=none")
        assert status == 0 and "6 of 6 runs finished" in output
    assert "published" not in (root / "report" / "table.md").read_text()
    assert "without test-time augmentation" in output
    # Without its data, a report has no pictures and says why.
    assert "there is no data.root=nowhere" in output
    assert "there is no data.root=nowhere" in (root / "report" / "report.html").read_text()


def test_worst_pairs_by_hand(tmp_path: Path) -> None:
    root = write_ablation(tmp_path / "a", {(): 0.0}, products=5, pictures=12, base=0.6)
    experiment = read_experiment(root)
    pairs = worst_pairs(experiment, 0)
    wrong = 1 - experiment.correct()[0]
    by_product = {
        name: wrong[:, experiment.pictures.name == name].sum()
        for name in set(experiment.pictures.name)
    }
    # Where a synthetic run is wrong, it decides on the next product.
    assert [pair.count for pair in pairs] == sorted(by_product.values(), reverse=True)
    first = pairs[0]
    assert int(first.decided) == (int(first.target) + 1) % 5
    assert first.share == pytest.approx(first.count / 36)
    votes = wrong[:, experiment.pictures.id.tolist().index(first.picture)].sum()
    assert first.runs == votes == wrong[:, experiment.pictures.name == first.target].sum(0).max()


def test_wrong_commands(sweep: Path, tmp_path: Path, command: Command) -> None:
    for words, expected in (
        ((f"runs={tmp_path / 'absent'}",), "There is no folder"),
        (
            (f"runs={sweep}", "baseline=clahe"),
            "allowed, a row of the table: nothing; mixup and cutmix",
        ),
        ((f"runs={sweep}", "published=recipe_z"), "allowed: recipe_a, none"),
        ((f"runs={sweep}", "tta=perhaps"), "tta=perhaps"),
    ):
        status, _, errors = command(*words)
        assert status == 2
        assert errors.startswith("error: ") and expected in errors
        assert errors.count("\n") == 1
