"""Votes of folds, computed by hand: the vote of every run on every picture is known."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic_sweeps import write_ablation, write_multirun, write_run

from product_cls.inference.predictions import Predictions
from product_cls.report.experiment import read_experiment
from product_cls.report.model_votes import _right, models_table, published_reference, read_votes
from product_cls.report.models import main
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., AbstractContextManager[None]]
FILES = ("table.md", "table.csv", "plot.png")
CLASSES = ("a", "b", "c", "d")
VIEWS = (0.0, 30.0, 60.0)
EACH = 6  # pictures per product: two of each view


def opinion(right: np.ndarray, target: np.ndarray, sure: float) -> np.ndarray:
    """Probabilities: ``sure`` for the target or, if wrong, for the class after it."""
    scores = np.full((len(target), 4), (1 - sure) / 3, np.float32)
    scores[np.arange(len(target)), np.where(right, target, (target + 1) % 4)] = sure
    return scores


def fold_of(root: Path, model: str, fold: int) -> RunFolder:
    return RunFolder(root / f"fold={fold},model={model}")


def write_models(
    root: Path, models: Sequence[str] = ("lite0", "lite1"), *, folds: int = 5, sure: float = 0.7
) -> Path:
    """Fold k is wrong on pictures n with ``n % folds == k``.

    With 5 folds, one fold is right on 80 % and their vote on all pictures. Without test-time
    augmentation, three of five folds are also wrong on picture 0, and so is the vote. All models
    are alike, except that the last one's folds are all wrong on pictures 6 and 7.
    """
    target = np.repeat(np.arange(4), EACH)
    number = np.arange(len(target))
    for model in models:
        for fold in range(folds):
            right = number % folds != fold
            plain = right & ~((number == 0) & (fold < 3))
            if model == models[-1]:
                right, plain = (x & ~np.isin(number, (6, 7)) for x in (right, plain))
            predictions = Predictions(
                id=np.array([f"test/{n:02d}.jpg" for n in number]),
                scores=opinion(right, target, sure),
                scores_no_tta=opinion(plain, target, sure),
                classes=np.array(CLASSES),
                task={"name": "single_label", "label": "label", "classes": list(CLASSES)},
                target=target,
                view=np.array(VIEWS)[number % 3],
            )
            write_run(
                fold_of(root, model, fold),
                {"model": {"backbone": model}, "seed": 0, "fold": fold, "tta": ["identity"]},
                [f"fold={fold}", f"model={model}"],
                predictions.rows(np.random.default_rng(fold).permutation(len(number))),
            )
    params = {"model": ",".join(models), "fold": ",".join(map(str, range(folds)))}
    write_multirun(root, params, ["sweep=models"])
    return root


def numbers(root: Path) -> pd.DataFrame:
    experiment = read_experiment(root)
    return models_table(experiment, read_votes(experiment)).set_index("model")


@pytest.mark.parametrize(
    "task",
    [
        {"name": "retrieval", "label": "label", "classes": list(CLASSES), "embedding": 16},
        {"name": "multi_label", "labels": list(CLASSES), "thresholds": [0.5] * 4},
        {"name": "multi_head", "heads": {"a": {"column": "a", "classes": list(CLASSES)}}},
    ],
    ids=lambda task: str(task["name"]),
)
def test_runs_of_other_tasks_are_refused(
    task: dict[str, Any], tmp_path: Path, refused: Refused
) -> None:
    experiment = read_experiment(write_models(tmp_path / "models"))
    file = experiment.finished()[0].settings.folder.predictions_file("test")
    with refused(f"needs runs of task=single_label; these have task={task['name']}"):
        _right(replace(Predictions.load(file), task=task), experiment.pictures)


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def test_votes_by_hand(tmp_path: Path) -> None:
    table = numbers(write_models(tmp_path / "models"))
    assert table.index.tolist() == ["lite0", "lite1", "all models"]
    assert table["runs"].tolist() == table["planned"].tolist() == [5, 5, 10]
    lite0, lite1, both = (table.loc[name] for name in table.index)
    # 24 pictures: fold 4 is wrong in 4 of them, the others in 5; without TTA folds 1 and 2 once
    # more (fold 0 was wrong at picture 0 anyway).
    single = 100 * np.array([19, 19, 19, 19, 20]) / 24
    assert lite0["tta_fold"] == pytest.approx(single.mean())
    assert lite0["tta_sd"] == pytest.approx(single.std(ddof=1))
    assert [lite0[f"accuracy fold={k}"] for k in range(5)] == pytest.approx(single)
    assert lite0["plain_fold"] == pytest.approx(100 * (96 - 2) / 120)
    assert lite0["tta_vote"] == 100 and lite0["plain_vote"] == pytest.approx(100 * 23 / 24)
    assert lite0["tta_gain"] == pytest.approx(20)
    # Without TTA, only picture 0 can be wrong, so the interval ends at 100 %.
    assert lite0["plain_vote_low"] < lite0["plain_vote"] < lite0["plain_vote_high"] == 100
    # Each picture is wrong in one fold of five, so the gain is the same in every resample. It
    # would not be if the vote and the folds were resampled separately.
    assert [lite0["tta_gain_low"], lite0["tta_gain_high"]] == pytest.approx([20, 20])
    assert lite1["tta_vote"] == pytest.approx(100 * 22 / 24)
    # On pictures 6 and 7, four runs are right and six are wrong.
    assert both["tta_vote"] == pytest.approx(100 * 22 / 24)
    assert both["tta_fold"] == pytest.approx((lite0["tta_fold"] + lite1["tta_fold"]) / 2)
    # Pictures 6 and 7 have views 0 and 30; each view has 8 pictures.
    assert [lite1[f"vote view {v}"] for v in (0, 30, 60)] == pytest.approx([87.5, 87.5, 100])
    assert np.isnan(table["published"]).all()


def test_intervals_resample_products(tmp_path: Path) -> None:
    table = numbers(write_models(tmp_path / "models"))
    # The last model is wrong on two of the six pictures of product b and nowhere else. In a
    # resample of four products with b drawn k times, its accuracy is 1 - k / 12, and k is binomial.
    weights = np.random.default_rng(1).multinomial(4, [0.25] * 4, 100_000)[:, 1]
    low, high = np.quantile(100 * (1 - weights / 12), [0.025, 0.975])
    assert table.loc["lite1", ["tta_vote_low", "tta_vote_high"]].tolist() == pytest.approx(
        [low, high]
    )


def test_every_run_has_one_vote_even_if_models_lack_folds(tmp_path: Path) -> None:
    root = write_models(tmp_path / "models")
    for fold in (1, 2, 3, 4):
        shutil.rmtree(fold_of(root, "lite1", fold).path)
    table = numbers(root)
    assert table["runs"].tolist() == [5, 1, 6]
    # On pictures 6 and 7, four runs are right and two wrong. With one vote per model, the only run
    # of lite1 would win, because it is more confident than the mean of lite0.
    assert table.loc["lite1", "tta_vote"] == table.loc["lite1", "tta_fold"] < 80
    assert table.loc["all models", "tta_vote"] == 100
    assert np.isnan(table.loc["lite1", "tta_sd"])
    assert table.loc["all models", "tta_fold"] == pytest.approx(
        (5 * table.loc["lite0", "tta_fold"] + table.loc["lite1", "tta_fold"]) / 6
    )


def test_unfinished_folds_are_named_and_not_counted(tmp_path: Path, command: Command) -> None:
    root = write_models(tmp_path / "models", ("lite0", "lite1", "lite2"))
    shutil.rmtree(fold_of(root, "lite0", 3).path)
    fold_of(root, "lite1", 0).update_status(state="failed", error="No space left.")
    fold_of(root, "lite1", 1).update_status(state="running", epoch=2, epochs=6)
    for fold in range(5):
        fold_of(root, "lite2", fold).update_status(limited=True)
    status, output, errors = command(f"runs={root}")
    assert (status, errors) == (0, "")
    assert "NOTE: lite0: 4 of 5 runs; fold=3 missing: no run folder." in output
    assert "fold=0 failed: No space left; fold=1 running: after epoch 2 of 6" in output
    assert "lite2: 0 of 5 runs; fold=0 limited" in output
    text = (root / "report" / "table.md").read_text()
    assert "| lite0 | 4 of 5 |" in text and "| lite1 | 3 of 5 |" in text
    assert "| lite2 | 0 of 5 | - | - | - | - | - |" in text
    assert "| all models | 7 of 15 |" in text
    assert "fewer runs than planned: lite0, lite1, lite2, all models" in text
    table = pd.read_csv(root / "report" / "table.csv")
    assert table["runs"].tolist() == [4, 3, 0, 7]
    assert np.isnan(table["accuracy fold=3"][0]) and not np.isnan(table["accuracy fold=4"][0])
    assert "running" in table["not done"][1]


def test_published_results_are_in_their_rows_or_below_the_table(
    tmp_path: Path, command: Command
) -> None:
    root = write_models(tmp_path / "b", ("b0", "b1", "b2"), folds=2)
    _, output, _ = command(f"runs={root}")
    text = (root / "report" / "table.md").read_text()
    assert "published vote, TTA" in text and "| 94.23 |" in text and "| 94.60 |" in text
    assert "other pictures than these" in text and "ANOTHER data set" not in output
    table = pd.read_csv(root / "report" / "table.csv")
    assert table["published"].tolist()[:3] == [94.233, 94.404, 94.603]
    root = write_models(tmp_path / "lite", folds=2)
    command(f"runs={root}")
    text = (root / "report" / "table.md").read_text()
    assert "published vote, TTA" not in text.partition("ANOTHER data set")[0]
    assert "| b2 | 94.60 |" in text.partition("ANOTHER data set")[2]
    assert "ANOTHER data set" in published_reference(pd.DataFrame({"model": [], "published": []}))


def test_equal_runs_give_equal_bytes_and_a_plot(tmp_path: Path, command: Command) -> None:
    root = write_models(tmp_path / "models")
    for name in ("one", "two"):
        status, output, _ = command(f"runs={root}", f"out={tmp_path / name}")
        assert status == 0 and "10 of 10 runs finished" in output
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not (root / "report").exists()
    with Image.open(tmp_path / "one" / "plot.png") as plot:
        assert plot.width > 1500 and np.asarray(plot.convert("L")).std() > 5


def test_wrong_folders(tmp_path: Path, refused: Refused, command: Command) -> None:
    ablation = write_ablation(tmp_path / "ablation", {(): 0.0, ("blur",): 0.0}, products=4)
    with refused("vary exclude and seed", "sweep=models"):
        read_votes(read_experiment(ablation))
    status, _, errors = command(f"runs={tmp_path / 'absent'}")
    assert status == 2 and errors.startswith("error: There is no folder")
    root = write_models(tmp_path / "models")
    assert command(f"runs={root}", f"out={tmp_path / 'excel'}", "csv=excel")[0] == 0
    assert (tmp_path / "excel" / "table.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    file = fold_of(root, "lite1", 2).predictions_file("test")
    whole = Predictions.load(file)
    classes = np.array(list("wxyz"))
    other = replace(whole, classes=classes, task=whole.task | {"classes": classes.tolist()})
    other.save(file)
    status, _, errors = command(f"runs={root}")
    assert status == 2 and errors.startswith("error: ") and errors.count("\n") == 1
