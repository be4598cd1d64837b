"""The report of runs without a labelled test: held-out pictures, out of fold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweeps import synthetic_predictions, write_multirun, write_run

from product_cls.core.errors import UserError
from product_cls.display.tables import markdown
from product_cls.report.__main__ import main
from product_cls.report.experiment import read_experiment
from product_cls.report.held_out import has_labelled_test, read_held_out
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two folds of ten pictures each; two pictures of fold 1 are wrong, one of them surely."""
    root = tmp_path / "s"
    for fold in (0, 1):
        ids = [f"{'ab'[k % 2]}/{fold}{k}.jpg" for k in range(10)]
        right = np.array([not (fold == 1 and k in (2, 4)) for k in range(10)])
        val = synthetic_predictions(right, ids, ["ab"[k % 2] for k in range(10)], [0.0] * 10)
        if fold == 1:
            val.scores[4] = [0.01, 0.99]
        test = synthetic_predictions(right, ids, ["ab"[k % 2] for k in range(10)], [0.0] * 10)
        folder = RunFolder(root / f"fold={fold}")
        config = {"seed": 0, "fold": fold, "model": {"backbone": "b0"}, "data": {"root": "none"}}
        write_run(folder, config, [f"fold={fold}"], replace(test, target=np.full(10, -1)))
        val.save(folder.predictions_file("val"))
    return root


def test_how_many_are_right_comes_first(sweep: Path, command: Command) -> None:
    assert not has_labelled_test(sweep)
    status, output, errors = command(f"runs={sweep}")
    assert (status, errors) == (0, "")
    first = "18 of 20 held-out pictures are right (90.0 %; 2 runs)."
    assert output.startswith(first)
    text = (sweep / "report" / "table.md").read_text()
    assert text.startswith("s: validation, no labelled test. " + first)
    page = (sweep / "report" / "report.html").read_text()
    assert "<title>s: validation, no labelled test</title>" in page
    visible = page[page.index("<body>") :]
    assert visible.index("18 of 20") < visible.index("<h2>Result") < visible.index("out of fold")
    for title in ("Products most often confused", "Doubtful pictures", "Products:"):
        assert f"<h2>{title}" in page
    products = pd.read_csv(sweep / "report" / "products.csv")
    assert products["product"].tolist() == ["a", "b"]  # the worst first
    assert products["right"].tolist() == [8, 10]
    assert products["most often taken for"].fillna("").tolist() == ["b", ""]
    pictures = pd.read_csv(sweep / "report" / "pictures.csv")
    assert pictures["id"].tolist()[:2] == ["a/14.jpg", "a/12.jpg"]
    assert pictures["right"].tolist() == ["no"] * 2 + ["yes"] * 18
    assert pictures["probability of the label"].tolist()[:3] == pytest.approx([0.01, 0.1, 0.9])
    row = read_held_out(sweep).rows[0]
    assert row.each == [1.0, 0.8]
    (pair,) = row.pairs()
    assert (pair.target, pair.decided, pair.count) == ("a", "b", 2)


def test_failed_attempts_are_left_out_unless_asked(sweep: Path, command: Command) -> None:
    failed = RunFolder(sweep / "lr=9")
    write_run(failed, {"seed": 0, "fold": 0}, ["fold=0", "optimizer.lr=9"], None)
    failed.update_status(state="failed", error="Loss is NaN.")
    _, output, _ = command(f"runs={sweep}")
    assert output.startswith("18 of 20") and "Loss is NaN" not in output
    assert "1 failed attempt of other settings left out; failed=true shows them." in output
    _, output, _ = command(f"runs={sweep}", "failed=true")
    assert "Loss is NaN" in output
    # What the sweep planned is named in any case.
    write_multirun(sweep, None, ["+optimizer.lr=1,9", "fold=0,1"])
    failed.update_status(error="No disk.")
    write_run(failed, {"seed": 0, "fold": 0}, ["fold=0", "+optimizer.lr=9"], None)
    failed.update_status(state="failed", error="No disk.")
    _, output, _ = command(f"runs={sweep}")
    assert "No disk" in output


def test_a_bad_run_does_not_end_the_report_of_the_others(sweep: Path, command: Command) -> None:
    (sweep / "fold=0" / "predictions" / "val.npz").write_bytes(b"PK")
    status, output, _ = command(f"runs={sweep}", "csv=excel")
    assert status == 0 and output.startswith("8 of 10 held-out pictures are right (80.0 %; 1 run).")
    assert (
        "fold=0 is not in the results" in output and "val.npz is not a predictions file" in output
    )
    assert (sweep / "report" / "table.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    (sweep / "fold=1" / "predictions" / "val.npz").unlink()
    status, _, errors = command(f"runs={sweep}")
    assert status == 2 and "it held no pictures out (fold=all)" in errors
    status, _, errors = command(f"runs={sweep}", "csv=word")
    assert status == 2 and errors == "error: csv=word; allowed: plain, excel.\n"


def test_reports_that_need_a_test_name_the_one_that_does_not(sweep: Path) -> None:
    with pytest.raises(UserError, match=r"a readable test with labels.*product-cls report runs="):
        read_experiment(sweep)


def test_names_cannot_break_a_table() -> None:
    table = pd.DataFrame({"a|b": ["x|y\nz"], "c": [0.5]})
    assert markdown(table) == "| a\\|b | c |\n|---|---|\n| x\\|y\\nz | 0.50 |\n"


def test_one_run_alone(sweep: Path, command: Command) -> None:
    _, output, _ = command(f"runs={sweep / 'fold=1'}")
    assert output.startswith("8 of 10 held-out pictures are right (80.0 %; 1 run).")
