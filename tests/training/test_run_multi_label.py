"""Runs of task=multi_label, from config to submission."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_in_process import refusal, train

from product_cls.core.errors import UserError
from product_cls.data.letters import make_letters
from product_cls.data.letters.glyphs import ALPHABET
from product_cls.ensemble.__main__ import main as ensemble_main
from product_cls.ensemble.label_thresholds import tune_decisions
from product_cls.ensemble.voting import blend, blend_predictions
from product_cls.ensemble.weights import random_parts
from product_cls.inference.predictions import Predictions
from product_cls.metrics.thresholds import per_label_thresholds
from product_cls.predict import main as predict_main
from product_cls.report.__main__ import main as report_main
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
SMALL = (
    "data=letters_contest",
    "task=multi_label",
    "loss=bce",
    "data.size=32",
    "data.batch_size=8",
)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("letters") / "set"
    return make_letters(out, pictures=40, test=12, size=32, processes=1, progress=False)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, letters: Path) -> Path:
    root = tmp_path_factory.mktemp("sweep") / "letters"
    for fold in (0, 1):
        overrides = (*SMALL, f"fold={fold}", "mix.p=1", "optimizer.lr=0.01", "trainer.max_epochs=2")
        train(root / f"fold={fold}", letters, *overrides, "data.answers_file=test_answers.csv")
    return root


def test_metrics_hold_all_measures(sweep: Path) -> None:
    run = RunFolder(sweep / "fold=0")
    metrics = run.metrics()
    assert run.status()["metric"] == "val/accuracy"
    for split, count in (("val", 20), ("test", 12)):
        part = metrics[split]
        assert part["count"] == count
        assert set(part) >= {"accuracy", "exact", "f1_macro", "f1_micro", "mAP", "mAP_no_tta"}
    assert metrics["val"]["accuracy_no_tta"] == pytest.approx(run.status()["value"], abs=1e-6)
    predictions = Predictions.load(run.predictions_file("test"))
    assert predictions.scores.shape == predictions.target.shape == (12, 26)
    assert predictions.classes.tolist() == list(ALPHABET)
    right = (predictions.scores > 0.5) == predictions.target
    assert metrics["test"]["accuracy"] == pytest.approx(right.mean())


def test_the_ensemble_tunes_thresholds_out_of_fold(
    sweep: Path, letters: Path, run_command: Callable[..., Command], tmp_path: Path
) -> None:
    ensemble = run_command(ensemble_main)
    status, output, _ = ensemble(f"runs={sweep}")
    assert status == 0 and "global (used)" in output
    assert ensemble(f"runs={sweep}", "thresholds=per_label")[0] == 0
    out = sweep / "ensemble"
    table = pd.read_csv(out / "decisions.csv").set_index("thresholds")
    assert table.index.tolist() == ["half", "global", "per_label (used)"]
    val = Predictions.load(out / "predictions" / "val.npz")
    right = (val.scores > 0.5) == val.target
    assert table.loc["half", "val accuracy"] == pytest.approx(100 * right.mean(), abs=1e-3)
    parts = [Predictions.load(sweep / f"fold={k}" / "predictions" / "test.npz") for k in (0, 1)]
    blended = Predictions.load(out / "predictions" / "test.npz")
    assert blended.scores == pytest.approx((parts[0].scores + parts[1].scores) / 2, abs=1e-6)

    submission = pd.read_csv(out / "submission.csv")
    sample = pd.read_csv(letters / "sample_submission.csv")
    assert submission.columns.tolist() == sample.columns.tolist()
    assert submission["index"].tolist() == sample["index"].tolist()
    submitted = submission[list(ALPHABET)].to_numpy()
    # The file carries the thresholds that decided.
    assert np.array_equal(submitted, blended.scores > blended.make_task().thresholds)
    assert table.loc["per_label (used)", "test accuracy"] == pytest.approx(
        100 * (submitted == blended.target).mean(), abs=1e-3
    )
    words = (f"runs={sweep}", f"out={tmp_path}", "thresholds=half", "method=logits")
    assert ensemble(*words)[0] == 0
    half = pd.read_csv(tmp_path / "submission.csv")[list(ALPHABET)].to_numpy()
    odds = [np.log(p.scores / (1 - p.scores)) for p in parts]
    assert np.array_equal(half, np.mean(odds, axis=0) > 0)
    for wrong, expected in (
        ("method=gmean", "method=gmean is not for runs of task=multi_label; allowed: mean, logits"),
        ("thresholds=some", "thresholds=some; allowed: per_label, global, half, or null"),
        ("goal=recall", "goal=recall; allowed: accuracy, f1"),
    ):
        status, _, errors = ensemble(f"runs={sweep}", wrong)
        assert status == 2 and expected in errors


def test_predict_names_the_labels(
    sweep: Path, letters: Path, tmp_path: Path, run_command: Callable[..., Command]
) -> None:
    predict = run_command(predict_main)
    checkpoint = sweep / "fold=0" / "checkpoints" / "best.ckpt"
    words = (f"checkpoint={checkpoint}", f"images={letters / 'test'}", f"out={tmp_path}")
    assert predict(*words)[0] == 0
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert table.columns.tolist() == ["image", "labels", *ALPHABET]
    scores = table[list(ALPHABET)].to_numpy()
    for labels, row in zip(table["labels"], scores, strict=True):
        named = np.isin(list(ALPHABET), labels.split())
        assert (row[named] >= 0.5).all() and (row[~named] <= 0.5).all()  # scores are rounded
    assert (tmp_path / "contact_sheet.png").is_file()
    high = json.dumps({"thresholds": dict.fromkeys(ALPHABET, 1.0)})
    (tmp_path / "high.json").write_text(high)
    assert predict(*words, f"thresholds={tmp_path / 'high.json'}")[0] == 0
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert set(table["labels"]) == {""}
    (tmp_path / "few.json").write_text('{"thresholds": {"a": 0.5}}')
    for file, expected in (
        ("few.json", "only one of them has 'b'"),
        ("no.json", "is not a thresholds file"),
    ):
        status, _, errors = predict(*words, f"thresholds={tmp_path / file}")
        assert status == 2 and expected in errors and errors.count("\n") == 1  # before predicting


def made(scores: list[list[float]], **task: object) -> Predictions:
    array = np.array(scores, np.float32)
    return Predictions(
        id=np.array(["x", "y", "z"][: len(array)]),
        scores=array,
        scores_no_tta=array,
        classes=np.array(["a", "b"]),
        task={"name": "multi_label", "labels": ["a", "b"], **task},
        target=np.array([[1, 1], [0, 1], [-1, -1]])[: len(array)],
    )


def test_blends_of_independent_probabilities() -> None:
    first, second = made([[0.9, 0.8], [0.2, 0.6]]), made([[0.5, 0.9], [0.1, 0.9]])
    mean = blend_predictions([("one", first), ("two", second)])
    assert mean.scores == pytest.approx(np.array([[0.7, 0.85], [0.15, 0.75]]))
    logits = blend_predictions([("one", first), ("two", second)], "logits")
    # Geometric mean of the odds: sqrt(9 * 1) to 1.
    assert logits.scores[0, 0] == pytest.approx(0.75)
    sure = blend(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]), "logits")
    assert np.isfinite(sure).all() and sure[0, 0] > 0.99


def test_thresholds_without_pictures_to_tune_on() -> None:
    test = {"test": made([[0.9, 0.8]])}
    decisions = tune_decisions(test, None)
    assert decisions is not None and decisions.how == "half"
    with pytest.raises(UserError, match=r"thresholds=global .* none \(fold=all\)"):
        tune_decisions(test, "global")
    # Rows with unknown labels are not tuned on.
    both = tune_decisions({"val": made([[0.4, 0.8], [0.3, 0.6], [0.9, 0.1]])}, "per_label")
    assert both is not None and both.thresholds == pytest.approx({"a": 0.35, "b": 0.5})


def test_tuned_thresholds_are_measured_on_other_pictures() -> None:
    """On random scores, tuned thresholds overfit."""
    rng = np.random.default_rng(0)
    scores = rng.random((60, 2)).astype(np.float32)
    target = rng.integers(2, size=(60, 2))
    made_val = replace(
        made([[0.0, 0.0]]),
        id=np.arange(60).astype(str),
        scores=scores,
        scores_no_tta=scores,
        target=target,
    )
    decisions = tune_decisions({"val": made_val, "test": made_val}, "per_label")
    assert decisions is not None
    table = decisions.table.set_index("thresholds")
    in_sample, cross_fitted = table["test accuracy"], table["val accuracy"]
    assert (
        in_sample["half"] == cross_fitted["half"]
        and in_sample["per_label (used)"] > in_sample["half"]
    )
    expected = np.empty((60, 2), bool)
    part = random_parts(60)
    for k in range(5):
        others = part != k
        thresholds = per_label_thresholds(scores[others], target[others])
        expected[~others] = scores[~others] > thresholds
    accuracy = cross_fitted["per_label (used)"]
    assert accuracy == pytest.approx(100 * (expected == target).mean())
    assert accuracy < in_sample["per_label (used)"]


def test_single_labels_have_no_thresholds() -> None:
    task = {"name": "single_label", "classes": ["a", "b"]}
    splits = {"test": replace(made([[0.9, 0.1]]), target=np.array([0]), task=task)}
    assert tune_decisions(splits, None) is None
    with pytest.raises(UserError, match="thresholds=half is for runs of task=multi_label"):
        tune_decisions(splits, "half")
    with pytest.raises(UserError, match="goal=f1 is for runs of task=multi_label"):
        tune_decisions(splits, None, "f1")
    with pytest.raises(UserError, match="goal=recall; allowed: accuracy, f1"):
        tune_decisions({"test": made([[0.9, 0.8]])}, "half", "recall")


def test_the_report_is_for_one_label(sweep: Path, run_command: Callable[..., Command]) -> None:
    status, _, errors = run_command(report_main)(f"runs={sweep}")
    assert status == 2 and "several labels per picture" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("loss=cross_entropy",), "loss=CrossEntropyLoss is for one label per picture"),
        (("loss=soft_f1",), "allowed for several: BCEWithLogitsLoss, "),
        (("task=single_label",), "loss=BCEWithLogitsLoss is for several labels per picture"),
        (("task.labels=[a,cat]",), "task.labels=[a, cat]: 'cat' is not a column"),
        (("task.weights=log",), "task.weights=log; allowed: balanced"),
        (
            ("folds.strategy=stratified_group",),
            "folds.strategy=stratified_group needs one label per picture",
        ),
        (("data.limit=3",), "data.limit=3 is too few for 26 labels"),
        (("data.per_class=2",), "data.per_class=2"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    letters: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: tuple[str, ...],
    words: str,
) -> None:
    assert words in refusal(tmp_path / "run", letters, caplog, *SMALL, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=bce_focal", "task.weights=balanced", "mix=cutmix", "task.labels=[q,a]"),
        ("loss=asymmetric", "mix=mixup", "mix.p=1", "data.limit=30", "fold=all"),
        ("optimizer=sam", "augment=letters", "task.weights=balanced"),
    ],
)
def test_choices_run(tmp_path: Path, letters: Path, overrides: tuple[str, ...]) -> None:
    run = train(tmp_path / "run", letters, *SMALL, *overrides)
    assert run.status()["state"] == "done"
    assert "accuracy" not in run.metrics()["test"]  # the sample submission's labels mean nothing


@pytest.mark.parametrize("experiment", ["letters", "letters_full"])
def test_experiments_run_two_steps(tmp_path: Path, experiment: str) -> None:
    run = train(
        tmp_path / "run",
        tmp_path / "set",
        f"experiment={experiment}",
        "data=letters",
        "data.pictures=40",
        "data.test_pictures=8",
        "data.render_size=32",
        "data.size=32",
        "data.batch_size=8",
        "model=tiny",
        "trainer=debug",
        "folds.n_splits=2",
    )
    assert run.metrics()["steps"] == 2
