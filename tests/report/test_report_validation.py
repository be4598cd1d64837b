"""The validation report, with accuracies set by hand."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from synthetic_sweeps import synthetic_predictions, write_ablation, write_multirun, write_run

from product_cls.report.resampling import compare_orders, rank_correlation
from product_cls.report.validation import main
from product_cls.report.validation_study import (
    correlate,
    read_study,
    settings_table,
    validation_table,
    verdict,
)
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., AbstractContextManager[None]]
FILES = ("table.md", "table.csv", "plot.png")
MANY = 100  # pictures per view, so that one answer is one point

# Correct answers of 100: on random folds, on the held-out views 0 and 30, and on the test views 0,
# 30 and 60.
Setting = tuple[int, int, int, int, int, int]


def first(count: int) -> np.ndarray:
    return np.arange(MANY) < count


def folder_of(root: Path, setting: int, strategy: str, fold: int) -> RunFolder:
    return RunFolder(root / f"fold={fold},folds.strategy={strategy},optimizer.lr={setting}")


def write_validation(root: Path, settings: Sequence[Setting]) -> Path:
    """Two random folds and two held-out views of each setting; setting k has optimizer.lr=k."""

    def part(
        split: str, counts: Mapping[float, int]
    ) -> tuple[np.ndarray, list[str], list[str], list[float]]:
        right = np.concatenate([first(count) for count in counts.values()])
        ids = [f"{split}/{n}.jpg" for n in range(len(right))]
        views = [view for view in counts for _ in range(MANY)]
        return right, ids, [str(n % 5) for n in range(len(right))], views

    for k, (random, *held_out, at0, at30, at60) in enumerate(settings):
        test = synthetic_predictions(*part("test", {0.0: at0, 30.0: at30, 60.0: at60}))
        for strategy in ("stratified", "view"):
            for fold in (0, 1):
                # Each view has half of a random fold, and the folds are two points apart.
                random_fold = {0.0: random + 1 - 2 * fold, 30.0: random + 1 - 2 * fold}
                own = {30.0 * fold: held_out[fold]}
                config = {"folds": {"strategy": strategy}, "optimizer": {"lr": k}}
                folder = write_run(
                    folder_of(root, k, strategy, fold),
                    config | {"seed": 0, "fold": fold},
                    [f"folds.strategy={strategy}", f"fold={fold}", f"optimizer.lr={k}"],
                    # The test of a run with a held-out view must not count.
                    test if strategy == "stratified" else synthetic_predictions(
                        *part("test", {0.0: 1, 30.0: 1, 60.0: 1})
                    ),
                )  # fmt: skip
                counts = random_fold if strategy == "stratified" else own
                synthetic_predictions(*part("train", counts)).save(folder.predictions_file("val"))
    params = {
        "folds.strategy": "stratified,view",
        "fold": "0,1",
        "optimizer.lr": ",".join(map(str, range(len(settings)))),
    }
    write_multirun(root, params, ["sweep=validation"])
    return root


# Random folds order the settings opposite to the test, held-out views exactly as the test does.
TRUTH: list[Setting] = [
    (98 - k, 40 + 4 * k, 50 + 4 * k, 70 + 3 * k, 60 + 3 * k, 20 + 6 * k) for k in range(8)
]


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def test_every_number_of_a_setting(tmp_path: Path) -> None:
    study = read_study(write_validation(tmp_path / "v", TRUTH))
    assert study.unseen == ["60"] and not study.notes
    row = study.table.iloc[2]
    assert row["setting"] == "2"
    assert row["random"] == pytest.approx(96)  # of 97 and 95
    assert row["held_out"] == pytest.approx(53)
    assert (row["held_out 0"], row["held_out 30"]) == pytest.approx((48, 58))
    assert (row["test 0"], row["test 30"], row["test 60"]) == pytest.approx((76, 66, 32))
    assert (row["test"], row["unseen"]) == pytest.approx((58, 32))
    shown = settings_table(study)
    assert shown.columns.tolist() == [
        "no.", "setting", "random folds", "held-out views", "held-out view 0", "held-out view 30",
        "test", "test, view 0", "test, view 30", "test, view 60", "runs",
    ]  # fmt: skip
    assert set(shown["runs"]) == {"2 + 2"}


def test_a_perfect_and_a_reversed_order(tmp_path: Path) -> None:
    study = read_study(write_validation(tmp_path / "v", TRUTH))
    for target in ("test", "unseen"):
        ranks = correlate(study.complete, target)
        assert (ranks["random"].value, ranks["held_out"].value) == (-1, 1)
        assert (ranks["random"].high, ranks["held_out"].low) == (-1, 1)
        assert ranks["difference"].value == 2 and ranks["difference"].shown
    table = validation_table(study).set_index("validation")
    # Test: 50, 54, ... 78; random folds 98, 97, ... 91; held-out views 45, 49, ... 73.
    assert table.loc["random folds", "gap, absolute"] == pytest.approx(94.5 - 64)
    assert table.loc["random folds", "gap"] == "+30.50"
    assert table.loc["held-out views", "gap, absolute"] == pytest.approx(5)
    assert table.loc["held-out views", "gap"] == "-5.00"
    assert table.loc["random folds", "test of its best setting"] == pytest.approx(50)
    assert table.loc["held-out views", "test of its best setting"] == pytest.approx(78)
    assert table.loc["held-out views", "rank correlation with view 60"] == "1.00 (1.00 to 1.00)"
    assert table.iloc[2]["rank correlation with test"] == "+2.00 (+2.00 to +2.00)"
    words = verdict(study)
    assert "random folds: on average 94.5 % where the test gives 64.0 %, 30.5 off, " in words
    assert "opposite to the test's, rank correlation -1.00 (-1.00 to -1.00); held-out" in words
    assert "the better order of the two: held-out views;" in words
    assert "closer to the test in 8 of 8 settings" in words


def test_the_verdict_follows_the_numbers(tmp_path: Path) -> None:
    """With the roles of both validations exchanged, every part of the verdict changes."""
    turned = [(50 + 2 * k, 90 - k, 90 - k, *[48 + 2 * k] * 3) for k in range(8)]
    words = verdict(read_study(write_validation(tmp_path / "v", turned)))
    assert "its order of the settings agrees with the test's, rank correlation 1.00" in words
    assert "held-out views: on average 86.5 % where the test gives 55.0 %" in words
    assert "is opposite to the test's" in words and "better order of the two: random folds" in words
    assert "closer to the test in 0 of 8 settings" in words


def test_the_verdict_claims_no_more_than_the_intervals_show(tmp_path: Path) -> None:
    tests = [60, 62, 64, 66, 68, 70, 72, 74]
    # Neither order has much in common with the test's; random folds are all equal.
    mixed = [66, 60, 74, 62, 70, 64, 72, 68]
    settings = [(99, m, m, t, t, t) for m, t in zip(mixed, tests, strict=True)]
    study = read_study(write_validation(tmp_path / "v", settings))
    ranks = correlate(study.complete, "test")
    assert ranks["random"].value == ranks["random"].low == ranks["random"].high == 0
    assert ranks["held_out"].value == pytest.approx(spearmanr(mixed, tests).statistic)
    assert ranks["held_out"].low < 0 < ranks["held_out"].high
    words = verdict(study)
    assert "the same for all settings, so it does not order them; held-out" in words
    assert (
        "its order of the settings is not shown to agree with the test's, rank correlation 0."
        in words
    )
    assert "the better order of the two: not shown" in words


def test_few_settings_show_nothing(tmp_path: Path) -> None:
    five = read_study(write_validation(tmp_path / "five", TRUTH[:5]))
    assert correlate(five.complete, "test")["held_out"].value == 1
    assert "to agree with the test's (fewer than 6 settings), rank correlation 1.00;" in verdict(
        five
    )
    assert "agrees with" not in verdict(five)
    assert validation_table(five)["rank correlation with test"].tolist() == [
        "-1.00",
        "1.00",
        "+2.00",
    ]
    two = read_study(write_validation(tmp_path / "two", TRUTH[:2]))
    assert "not shown; settings with both kinds of validation and a test: 2" in verdict(two)
    assert validation_table(two)["rank correlation with test"].tolist() == ["-", "-"]


def test_rank_correlation_is_scipys_and_its_interval_rarely_errs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 5, (2, 9)).astype(float)  # with ties
        assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0
    wrong = differ = 0
    for _ in range(200):
        x, y, test = rng.normal(size=(3, 8))
        ranks = compare_orders({"x": x, "y": y}, test)
        wrong += ranks["x"].shown
        differ += ranks["difference"].shown
    assert wrong <= 20 and differ <= 20  # nominal 10; P(more than 20 | 10) is about 0.001


def test_settings_that_lack_a_part_are_named_and_left_out(tmp_path: Path, command: Command) -> None:
    root = write_validation(tmp_path / "v", TRUTH)
    shutil.rmtree(folder_of(root, 0, "view", 1).path)
    folder_of(root, 1, "stratified", 0).update_status(state="failed", error="No space left.")
    for fold in (0, 1):
        folder_of(root, 2, "stratified", fold).update_status(state="running", epoch=1, epochs=6)
        folder_of(root, 3, "stratified", fold).predictions_file("val").unlink()
    status, output, errors = command(f"runs={root}")
    assert (status, errors) == (0, "")
    output = " ".join(output.split())
    assert "Not in the correlations: 0 lacks held-out view 30." in output
    assert "Not in the correlations: 2 lacks random folds, test." in output
    assert "Not in the correlations: 3 lacks random folds." in output
    assert "fold=0 failed: No space left." in output and "after epoch 1 of 6" in output
    study = read_study(root)
    assert study.complete["setting"].tolist() == ["1", "4", "5", "6", "7"]
    table = study.table
    assert np.isnan(table["held_out"][0]) and table["held_out 0"][0] == pytest.approx(40)
    assert table["random"][1] == pytest.approx(
        96
    )  # of the only finished fold, which the counts show:
    runs = settings_table(study)["runs"].tolist()
    assert runs[:4] == ["2 + 1 of 2", "1 of 2 + 2", "0 of 2 + 2", "2 + 2"]


def test_nothing_that_can_be_compared(tmp_path: Path, command: Command) -> None:
    root = write_validation(tmp_path / "v", TRUTH[:2])
    for setting in (0, 1):
        for fold in (0, 1):
            shutil.rmtree(folder_of(root, setting, "view", fold).path)
    status, output, errors = command(f"runs={root}")
    assert (status, errors) == (0, "")
    assert "No run has validated on a held-out view." in output
    assert "Verdict: not shown" in output and "nan" not in output
    for folder in root.glob("fold=*"):
        RunFolder(folder).predictions_file("val").unlink()
    status, output, _ = command(f"runs={root}")
    assert status == 0 and "has no readable validation" in " ".join(output.split())
    shutil.rmtree(root)
    write_validation(root, TRUTH[:1])
    shutil.rmtree(folder_of(root, 0, "stratified", 0).path)
    shutil.rmtree(folder_of(root, 0, "stratified", 1).path)
    assert (
        command(f"runs={root}")[0] == 0
    )  # without random folds, the views of training are unknown:
    assert read_study(root).unseen == []


def test_no_view_beyond_those_of_training(tmp_path: Path, command: Command) -> None:
    root = write_validation(tmp_path / "v", TRUTH)
    for folder in root.glob("fold=*"):
        file = RunFolder(folder).predictions_file("test")
        with np.load(file) as stored:
            fields = {key: stored[key] for key in stored.files}
        np.savez(file, **fields | {"view": np.where(fields["view"] == 60, 30, fields["view"])})
    status, output, _ = command(f"runs={root}")
    assert status == 0 and "No test view is known to be missing" in " ".join(output.split())
    assert "rank correlation with view" not in (root / "report" / "table.md").read_text()


def test_equal_runs_give_equal_bytes_and_a_plot(tmp_path: Path, command: Command) -> None:
    root = write_validation(tmp_path / "v", TRUTH)
    for name in ("one", "two"):
        status, output, _ = command(f"runs={root}", f"out={tmp_path / name}")
        assert status == 0 and "32 of 32 runs finished" in output
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "table.md").read_text()
    assert verdict(read_study(root)) in text
    table = pd.read_csv(tmp_path / "one" / "table.csv")
    assert table["held_out 30"].tolist() == pytest.approx([50 + 4 * k for k in range(8)])
    with Image.open(tmp_path / "one" / "plot.png") as plot:
        assert plot.width > 1500 and np.asarray(plot.convert("L")).std() > 5


def test_without_tta_other_scores_count(tmp_path: Path) -> None:
    root = write_validation(tmp_path / "v", TRUTH[:2])
    assert read_study(root, tta=False).table["random"][0] < 50


def test_wrong_folders(tmp_path: Path, refused: Refused, command: Command) -> None:
    ablation = write_ablation(tmp_path / "ablation", {(): 0.0, ("blur",): 0.0}, products=4)
    with refused("does not vary folds.strategy over stratified and view", "sweep=validation"):
        read_study(ablation)
    root = write_validation(tmp_path / "v", TRUTH[:2])
    write_multirun(root, {"folds.strategy": "view,own", "optimizer.lr": "0,1", "fold": "0,1"})
    for folder in root.glob("fold=*,folds.strategy=stratified,*"):
        shutil.rmtree(folder)
    with refused("does not vary folds.strategy over stratified and view"):
        read_study(root)
    status, _, errors = command(f"runs={tmp_path / 'absent'}")
    assert status == 2 and errors.startswith("error: There is no folder")
