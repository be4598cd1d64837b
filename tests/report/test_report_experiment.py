"""Run folders -> rows x replicates: planned runs, missing runs and runs that do not belong."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from synthetic_sweeps import (
    EFFECTS,
    folder_of,
    synthetic_predictions,
    write_ablation,
    write_multirun,
    write_run,
)

from product_cls.inference.predictions import Predictions
from product_cls.report.experiment import Experiment, read_experiment
from product_cls.report.grid import read_grid
from product_cls.report.published import RECIPE_A
from product_cls.report.summary import csv_table, summarise_experiment
from product_cls.runs.folder import RunFolder

Refused = Callable[..., AbstractContextManager[None]]
FOUR = {row: EFFECTS[row] for row in list(EFFECTS)[:4]}  # nothing, both, cutmix, rotate


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows x three seeds with the published effects; not to be changed."""
    return write_ablation(tmp_path_factory.mktemp("whole") / "ablation", noise=3)


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Four rows x three seeds, to be damaged."""
    return write_ablation(tmp_path / "ablation", FOUR, products=8, pictures=9)


def states(experiment: Experiment) -> list[list[str]]:
    return [[run.state.kind for run in row] for row in experiment.runs]


def test_the_plan_is_parsed_as_hydra_parses_it(tmp_path: Path) -> None:
    write_multirun(
        tmp_path,
        {"exclude": "[],[mixup,cutmix], [cutmix]", "seed": "range(0,3)", "trainer.max_epochs": "5"},
        ["sweep=ablation", "seed=0,1", "+data.limit=100", "optimizer.lr=1e-3,1e-4"],
    )
    grid = read_grid(tmp_path)
    assert grid is not None
    assert grid.factors == ("exclude", "optimizer.lr")
    assert grid.rows[:3] == (("[]", "0.001"), ("[]", "0.0001"), ("[mixup,cutmix]", "0.001"))
    assert len(grid.rows) == 6
    assert grid.replicates == (
        ("0", ""),
        ("1", ""),
    )  # seeds on the command line replace those of the file
    assert "trainer.max_epochs=5" in grid.fixed and "+data.limit=100" in grid.fixed


def test_rows_keep_the_order_of_the_sweep(whole: Path) -> None:
    experiment = read_experiment(whole)
    assert experiment.rows[:4] == ["nothing", "mixup and cutmix", "cutmix", "rotate"]
    assert experiment.replicates == ["seed=0", "seed=1", "seed=2"]
    assert experiment.ablation and not experiment.unfinished() and not experiment.notes
    correct = experiment.correct()
    assert correct.shape == (10, 3, 1200)
    for r, row in enumerate(EFFECTS):
        for seed in range(3):
            metrics = folder_of(whole, row, seed).metrics()
            assert correct[r, seed].mean() == pytest.approx(metrics["test"]["accuracy"], abs=1e-6)


def test_known_effects_are_recovered(whole: Path) -> None:
    experiment = read_experiment(whole)
    summary = summarise_experiment(experiment, published=RECIPE_A)
    truth = np.array(list(EFFECTS.values()))
    differences = summary.differences
    assert differences.estimate == pytest.approx(truth, abs=0.02)
    assert (differences.low[1:] < truth[1:]).all() and (truth[1:] < differences.high[1:]).all()
    assert summary.verdict[:3] == ["", "helps", "helps"]
    assert summary.published[:2].tolist() == [91.457, 81.510]
    assert summary.tau is not None and summary.tau.count == 9
    assert summary.by_view.shape == (10, 3)
    assert (summary.by_view[:, 0] > summary.by_view[:, 2]).all()  # view 0 against view 60


def test_a_step_that_hurts_and_a_sweep_over_optimizers(tmp_path: Path) -> None:
    root = write_ablation(
        tmp_path / "a", {(): 0.0, ("blur",): 0.1}, products=20, seeds=(0, 1, 2, 3)
    )
    summary = summarise_experiment(read_experiment(root))
    assert summary.verdict == ["", "hurts"]
    other = tmp_path / "optimizers"
    labels = [str(k % 10) for k in range(400)]
    rng = np.random.default_rng(0)
    for name, share in (("sam", 0.9), ("adam", 0.6)):
        for seed in range(3):
            right = rng.random(400) < share
            write_run(
                RunFolder(other / f"{name},{seed}"),
                {"optimizer": {"_target_": name}, "seed": seed, "fold": 0},
                [f"optimizer={name}", f"seed={seed}"],
                synthetic_predictions(right, list(map(str, range(400))), labels, [0.0] * 400),
            )
    write_multirun(other, None, ["optimizer=sam,adam", "seed=0,1,2"])
    experiment = read_experiment(other)
    assert (experiment.rows, experiment.factors) == (["sam", "adam"], ("optimizer",))
    assert not experiment.notes  # optimizer._target_ differs, as it should
    assert summarise_experiment(experiment).verdict == ["", "worse"]
    assert summarise_experiment(experiment, baseline="adam").verdict == ["better", ""]
    assert summarise_experiment(experiment, baseline="optimizer=adam").baseline == 1


def test_unfinished_runs_are_named_and_not_counted(four: Path) -> None:
    shutil.rmtree(folder_of(four, (), 1).path)
    folder_of(four, ("cutmix",), 0).update_status(state="failed", error="Out of GPU memory.")
    folder_of(four, ("cutmix",), 1).update_status(state="running", epoch=2, epochs=6)
    folder_of(four, ("cutmix",), 2).update_status(limited=True)
    folder_of(four, ("rotate",), 2).predictions_file("test").unlink()
    experiment = read_experiment(four)
    assert states(experiment) == [
        ["done", "missing", "done"],
        ["done"] * 3,
        ["failed", "running", "limited"],
        ["done", "done", "unreadable"],
    ]
    reasons = [run.state.reason for run in experiment.unfinished()]
    assert reasons[1] == "Out of GPU memory"
    assert reasons[2] == "after epoch 2 of 6"
    summary = summarise_experiment(experiment)
    assert summary.rows.count.tolist() == [2, 3, 0, 2]
    assert summary.differences.pairs.tolist() == [0, 2, 0, 1]
    assert summary.verdict[2] == "no pair of runs"
    assert np.isnan(summary.rows.mean[2])
    table = csv_table(experiment, summary)
    assert table["runs"].tolist() == [2, 3, 0, 2] and set(table["planned"]) == {3}
    assert "seed=0 failed: Out of GPU memory" in table["not done"][2]


def test_without_a_plan_the_existing_runs_are_the_plan(four: Path) -> None:
    (four / "multirun.yaml").unlink()
    shutil.rmtree(folder_of(four, ("cutmix",), 1).path)
    experiment = read_experiment(four)
    assert sorted(experiment.rows) == ["cutmix", "mixup and cutmix", "nothing", "rotate"]
    assert [run.replicate for run in experiment.unfinished()] == ["seed=1"]
    (note,) = experiment.notes
    assert note.kind == "no_plan" and "no multirun.yaml" in note.text
    # Hydra's overrides are not needed either: the configs differ in the same key.
    for folder in four.iterdir():
        shutil.rmtree(folder / ".hydra")
    assert read_experiment(four).factors == ("exclude",)


def test_unplanned_runs_are_shown_and_named(four: Path) -> None:
    write_multirun(four, {"exclude": "[],[cutmix],[rotate]", "seed": "0,1,2"})
    experiment = read_experiment(four)
    assert experiment.rows == ["nothing", "cutmix", "rotate", "mixup and cutmix"]
    (note,) = experiment.notes
    assert note.kind == "unplanned" and note.text.count("exclude=[mixup,cutmix],seed=") == 3


def test_a_run_with_other_settings_is_named(four: Path) -> None:
    folder = folder_of(four, ("cutmix",), 1)
    text = folder.config_file.read_text() + "trainer: {max_epochs: 99}\n"
    folder.config_file.write_text(text)
    (note,) = read_experiment(four).notes
    assert note.kind == "other_setting"
    assert "trainer.max_epochs" in note.text and "99 (1 run)" in note.text


def test_a_failed_attempt_takes_no_place_of_a_result(four: Path) -> None:
    before = states(read_experiment(four))
    failed = sorted(file.parent for file in four.glob("*/status.json"))[0]
    shutil.copytree(failed, four / "zz")
    (failed / "status.json").write_text("[]")
    experiment = read_experiment(four)
    assert states(experiment) == before
    (note,) = [note.text for note in experiment.notes if note.kind == "duplicate"]
    assert note.startswith(f"{failed} has the same swept settings as {four / 'zz'} and is left out")


def test_a_run_that_failed_before_it_wrote_settings(four: Path) -> None:
    RunFolder(four / "odd").update_status(state="failed", error="No module named torch.")
    (note,) = read_experiment(four).notes
    assert note.kind == "no_settings"
    assert "odd is failed (No module named torch)" in note.text


def test_runs_on_different_pictures_are_refused(four: Path, refused: Refused) -> None:
    file = folder_of(four, ("cutmix",), 1).predictions_file("test")
    whole = Predictions.load(file)
    whole.rows(np.arange(10, len(whole.id))).save(file)
    with refused("cannot be in one table", "exclude=[cutmix],seed=1", "72 and 62"):
        read_experiment(four)


def test_runs_with_different_labels_are_refused(four: Path, refused: Refused) -> None:
    file = folder_of(four, ("cutmix",), 1).predictions_file("test")
    whole = Predictions.load(file)
    whole.target[:5] = (whole.target[:5] + 1) % 8
    whole.save(file)
    with refused("5 test pictures have different labels"):
        read_experiment(four)


def test_the_order_of_pictures_in_a_file_does_not_matter(four: Path) -> None:
    before = summarise_experiment(read_experiment(four))
    file = folder_of(four, ("rotate",), 1).predictions_file("test")
    whole = Predictions.load(file)
    whole.rows(np.random.default_rng(0).permutation(len(whole.id))).save(file)
    after = summarise_experiment(read_experiment(four))
    assert after.p.tolist()[1:] == before.p.tolist()[1:]


def test_pictures_without_a_label_do_not_count(four: Path) -> None:
    for row in FOUR:
        for seed in range(3):
            file = folder_of(four, row, seed).predictions_file("test")
            whole = Predictions.load(file)
            whole.target[:9] = -1  # unknown
            whole.target[9:12] = -2  # a product that training does not have: always wrong
            whole.save(file)
    experiment = read_experiment(four)
    assert len(experiment.pictures.id) == 72 - 9
    strange = experiment.pictures.name == "unknown to training"
    assert strange.sum() == 3
    assert experiment.correct()[:, :, strange].sum() == 0


def test_scores_with_and_without_tta(four: Path) -> None:
    with_tta = read_experiment(four).correct()
    without = read_experiment(four, tta=False).correct()
    plain = Predictions.load(folder_of(four, (), 0).predictions_file("test")).without_tta()
    expected = (plain.scores.argmax(1) == plain.target).mean()
    assert without[0, 0].mean() == pytest.approx(expected)
    assert not np.array_equal(with_tta, without)
    assert read_experiment(four).averaged() == "with"
    assert read_experiment(four, tta=False).averaged() == "without"
    for config in four.glob("*/config.yaml"):
        config.write_text(config.read_text() + "tta: [identity]\n")
    assert read_experiment(four).averaged() == "without"


def test_wrong_input(four: Path, tmp_path: Path, refused: Refused) -> None:
    with refused("There is no folder"):
        read_experiment(tmp_path / "absent")
    with refused("baseline=mixup; allowed", "nothing; mixup and cutmix; cutmix; rotate"):
        summarise_experiment(read_experiment(four), baseline="mixup")
    (four / "multirun.yaml").write_text("hydra: [")
    with refused("multirun.yaml cannot be parsed"):
        read_experiment(four)
    for row in FOUR:
        for seed in range(3):
            folder_of(four, row, seed).update_status(state="failed", error="No disk.")
    (four / "multirun.yaml").unlink()
    with refused("No run in", "has finished"):
        read_experiment(four)
