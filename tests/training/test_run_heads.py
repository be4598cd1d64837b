"""Runs of task=multi_head: their files, voting, prediction and resuming."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_people import make_people
from omegaconf import OmegaConf
from runs_in_process import refusal, train, train_interrupted, weights
from sklearn.metrics import f1_score

from product_cls import predict
from product_cls.data.people import read_people
from product_cls.ensemble import __main__ as ensemble
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.report import __main__ as report
from product_cls.runs.folder import RunFolder
from product_cls.tasks.multi_head import MultiHead
from product_cls.training.data_source import build_folds

PEOPLE = (
    "experiment=people",
    "data=people",
    "model=tiny",
    "data.size=[32,24]",
    "data.batch_size=16",
    "trainer.max_epochs=1",
)
Prepare = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("people") / "people", 12)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, people: Path) -> Path:
    """Like recipe D: two sizes and another network on the same fold."""
    root = tmp_path_factory.mktemp("sweep") / "people"
    train(root / "data.size=[48,40]", people, *PEOPLE, "data.size=[48,40]")
    train(root / "default", people, *PEOPLE, "optimizer.lr=0.01")
    train(root / "model=other", people, *PEOPLE, "seed=1")
    return root


def test_predictions_hold_the_scores_of_each_head(sweep: Path) -> None:
    run = RunFolder(sweep / "default")
    metrics, val = run.metrics(), Predictions.load(run.predictions_file("val"))
    assert run.status()["metric"] == "val/f1"
    assert metrics["val"]["f1_no_tta"] == pytest.approx(run.status()["value"], abs=1e-6)
    assert metrics["test"] == {"count": 5}  # labels unknown
    assert val.classes[:3].tolist() == ["mask=mask", "mask=incorrect", "mask=normal"]
    assert val.scores.shape == (42, 8) and val.target.shape == (42, 3)
    blocks, target = (slice(0, 3), slice(3, 5), slice(5, 8)), val.target
    best = np.stack([val.scores[:, block].argmax(axis=1) for block in blocks], axis=1)
    for k, head in enumerate(("mask", "gender", "age")):
        assert np.allclose(val.scores[:, blocks[k]].sum(axis=1), 1, atol=1e-5)
        f1 = f1_score(target[:, k], best[:, k], average="macro")
        assert metrics["val"][f"{head}/f1"] == pytest.approx(f1)
    combined = [array @ [6, 3, 1] for array in (target, best)]
    assert metrics["val"]["f1"] == pytest.approx(f1_score(*combined, average="macro"))
    # No person is both in training and held out: all seven pictures of a person are here, or none.
    persons = pd.Series(val.id).str.split("/").str[0].value_counts()
    assert persons.eq(7).all() and len(persons) == 6


def test_a_checkpoint_rebuilds_the_heads_and_the_shape_of_pictures(
    sweep: Path, people: Path
) -> None:
    run = RunFolder(sweep / "default")
    predictor = Predictor.load(run.best_checkpoint)
    assert predictor.size == (32, 24)
    test = Predictions.load(run.predictions_file("test"))
    picture = predictor.picture(people / "eval" / "images" / "d.jpg")[None]
    with torch.inference_mode():
        scores = predictor.task.scores(predictor.network(predictor.network.prepare(picture)))
    assert np.allclose(scores[0], test.scores_no_tta[0], atol=1e-5)  # the first of info.csv


def test_weighted_vote_over_sizes(sweep: Path, run_command: Prepare) -> None:
    command = run_command(ensemble.main)
    for method in ("mean", "gmean"):
        words = (f"runs={sweep}", "weights=[.4,.4,.2]", f"method={method}", f"out={sweep / method}")
        status, output, errors = command(*words)
        assert status == 0, errors
    text = " ".join(output.split())  # a long title is wrapped
    assert " f1 in %, with TTA" in text and "mask/f1 in %, with TTA" in text
    names = ("data.size=[48,40]", "default", "model=other")  # in the order of the table
    runs = [Predictions.load(RunFolder(sweep / n).predictions_file("test")) for n in names]
    blended = Predictions.load(sweep / "mean" / "predictions" / "test.npz")
    parts = [run.scores for run in runs]
    expected = np.average(parts, axis=0, weights=[0.4, 0.4, 0.2])
    assert blended.scores == pytest.approx(expected, abs=1e-6)
    geometric = Predictions.load(sweep / "gmean" / "predictions" / "test.npz").scores
    for block in (slice(0, 3), slice(3, 5), slice(5, 8)):
        assert geometric[:, block].sum(axis=1) == pytest.approx(1, abs=1e-5)
    table = pd.read_csv(sweep / "mean" / "table.csv")
    last = table[table["run"].str.startswith("ensemble") & table["tta"]].set_index("measure")["val"]
    assert list(last.index) == ["f1", "mean_f1", "mask/f1", "gender/f1", "age/f1", "accuracy"]
    val = Predictions.load(sweep / "mean" / "predictions" / "val.npz")
    measured = val.make_task().evaluate(val.scores, val.target)
    assert last.to_dict() == pytest.approx({k: 100 * measured[k] for k in last.index}, abs=1e-3)

    submission = pd.read_csv(sweep / "mean" / "submission.csv")
    assert list(submission) == ["filename", "prediction", "mask", "gender", "age"]
    assert submission["filename"].tolist() == [f"{name}.jpg" for name in "dbeac"]
    best = [blended.scores[:, b].argmax(axis=1) for b in (slice(0, 3), slice(3, 5), slice(5, 8))]
    assert submission["prediction"].tolist() == (6 * best[0] + 3 * best[1] + best[2]).tolist()
    assert submission["gender"].tolist() == [("male", "female")[k] for k in best[1]]


def test_predict_names_each_head(
    sweep: Path, people: Path, tmp_path: Path, run_command: Prepare
) -> None:
    checkpoints = [str(RunFolder(sweep / n).best_checkpoint) for n in ("default", "model=other")]
    words = (f"checkpoint={checkpoints}", f"images={people / 'eval'}", f"out={tmp_path}")
    status, _, errors = run_command(predict.main)(*words)
    assert status == 0, errors
    table = pd.read_csv(tmp_path / "predictions.csv")
    columns = ["mask", "mask_score", "gender", "gender_score", "age", "age_score"]
    assert list(table) == ["image", *columns] and len(table) == 5
    assert table["mask"].isin(["mask", "incorrect", "normal"]).all()
    assert (
        table["gender_score"].between(0.5, 1).all() and (tmp_path / "contact_sheet.png").is_file()
    )
    status, _, errors = run_command(predict.main)(*words, "tta=[identity,rot90]")
    assert status == 2 and "these have 32 x 24 pixels" in errors


def test_learned_weights_train_and_survive_an_interruption(tmp_path: Path, people: Path) -> None:
    overrides = (*PEOPLE, "task.uncertainty=true", "trainer.max_epochs=2", "optimizer.lr=0.05")
    whole = train(tmp_path / "whole", people, *overrides)
    broken = train_interrupted(tmp_path / "broken", people, *overrides, epoch=1)
    learnt = weights(whole)["network.head.raw"]
    assert learnt.shape == (3,) and learnt.abs().min() > 1e-3
    for name, value in weights(whole).items():
        assert value.equal(weights(broken)[name]), name
    assert broken.metrics()["val"] == whole.metrics()["val"]


def test_report_of_several_heads(
    tmp_path: Path, tiny_root: Path, run_command: Prepare, catalogue: Path
) -> None:
    root = tmp_path / "sweep"
    for seed in (0, 1):
        train(
            root / f"seed={seed}", catalogue, "task=multi_head", "task.heads=[way,tone]",
            f"seed={seed}",
        )  # fmt: skip
    metrics = RunFolder(root / "seed=0").metrics()["test"]
    assert set(metrics["by_view"]) == {"0", "30", "60"}
    assert set(metrics["by_view"]["60"]) == {
        "accuracy", "f1", "mean_f1", "way/accuracy", "way/f1", "tone/accuracy", "tone/f1",
    }  # fmt: skip
    status, _, errors = run_command(report.main)(f"runs={root}")
    assert status == 0, errors


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """The tiny competition, with two labels for each of its four classes."""
    root = tmp_path_factory.mktemp("catalogue") / "data"
    shutil.copytree(tiny_root, root)
    rows = zip(["0", "1", "2", "10"], ["level"] * 2 + ["slant"] * 2, "rgby", strict=True)
    with (root / "catalogue.csv").open("w", newline="") as file:
        header = ("label", "way", "tone", "shape", "brand", "flavour", "size", "coarse")
        more = ("box", "A", "Plum", "small"), ("can", "B", "Fig", "large")
        products = [(*row, *more[n % 2], row[1]) for n, row in enumerate(rows)]
        csv.writer(file).writerows([header, *products])
    return root


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "soft_f1", "sum"])
def test_every_loss_mixed_with_labels_missing(tmp_path: Path, catalogue: Path, loss: str) -> None:
    """No label is complete in this CSV, and one head has its own loss."""
    pictures = sorted((catalogue / "train").rglob("*.jpg"))
    table = pd.DataFrame({"path": [str(path) for path in pictures]})
    table["way"] = [int(path.parent.name) % 2 for path in pictures]
    table["tone"] = [path.parent.name for path in pictures]
    table["part"] = ["test" if path.stem in "09" else "train" for path in pictures]
    table.loc[::3, "way"] = np.nan
    table.loc[1::3, "tone"] = np.nan
    table.to_csv(tmp_path / "all.csv", index=False)
    run = train(
        tmp_path / "run", catalogue, "data=csv", f"data.file={tmp_path / 'all.csv'}",
        "data.label_column=null", "data.split_column=part", "task=multi_head", "mix.p=1",
        "+task.heads={way:{},tone:{weight:0.5,class_weights:null}}", f"loss={loss}",
        "+loss@task.heads.way.loss=focal", "data.root=/",
    )  # fmt: skip
    assert run.status()["metric"] == "val/mean_f1"
    val = Predictions.load(run.predictions_file("val"))
    assert (val.target == -1).any(axis=0).all() and np.isfinite(val.scores).all()
    assert val.classes.tolist() == ["way=0", "way=1", "tone=0", "tone=1", "tone=2", "tone=10"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task.heads=???", "Missing: task.heads=..."),
        ("task.heads=[way,brnad]", "task.heads.brnad.column=brnad is not a column"),
        ("+task.heads.wya.weight=2", "task.heads.wya.column=wya is not a column"),
        (
            "+task.heads.b={column:way}",
            "task.heads.b.column=way is also the column of the head way",
        ),
        (
            "task.heads={way:{classes:[level,steep]},tone:{}}",
            "task.heads.way.classes=[level, steep] lacks 'slant', the way of",
        ),
        ("+task.heads.way.weight=2 task.uncertainty=true", "task.heads.way.weight=2"),
        (
            "task.heads={way:{class_weights:log},tone:{}} loss=soft_f1",
            "task.heads.way.class_weights=log: SoftF1Loss takes no class weights",
        ),
        ("data.per_class=2", "data.per_class=2 needs one label per picture"),
        ("tta=[rot90] data.size=[32,24]", "these have 32 x 24 pixels"),
        ("loss=triplet", "loss=TripletLoss is over embeddings, which only the retrieval task has"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    catalogue: Path,
    caplog: pytest.LogCaptureFixture,
    override: str,
    words: str,
) -> None:
    if "triplet" in override:
        pytest.importorskip("pytorch_metric_learning")
    words_typed = override.split()
    if not words_typed[0].startswith("task.heads="):
        words_typed.insert(0, "task.heads={way:{},tone:{}}")
    sentence = refusal(tmp_path / "run", catalogue, caplog, "task=multi_head", *words_typed)
    assert words in sentence


EXPERIMENTS = {
    "people": ("data=people", "data.size=[32,24]"),
    "products_heads": ("data=competition", "data.size=32"),
    "grocery_heads": ("data=competition", "data.size=32", "folds.strategy=stratified"),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_two_steps(
    tmp_path: Path, people: Path, catalogue: Path, experiment: str
) -> None:
    run = train(
        tmp_path / "run",
        people if experiment == "people" else catalogue,
        f"experiment={experiment}",
        *EXPERIMENTS[experiment],
        "model=tiny",
        "trainer=debug",
        "data.batch_size=8",
    )
    assert run.metrics()["steps"] == 2


def test_groups_in_several_folds_cause_a_warning(
    tmp_path: Path, people: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples, task = read_people(people), MultiHead(["mask", "gender"])
    task.fit(samples)
    for strategy, warnings in (("stratified_group", 0), ("stratified", 1)):
        config = OmegaConf.create(
            {
                "folds": {"strategy": strategy, "n_splits": 3, "seed": 0, "file": None},
                "fold": 0,
                "task": {"heads": ["mask", "gender"]},
                "data": {"name": "people", "root": str(people), "limit": None},
                "paths": {"cache": str(tmp_path)},
            }
        )
        caplog.clear()
        build_folds(config, samples, task)
        assert (
            caplog.text.count("folds.strategy=stratified_group keeps each in one fold") == warnings
        )


def test_people_are_augmented_by_their_recipe(composed: Callable[..., dict[str, Any]]) -> None:
    steps = composed("experiment=people")["augment"]
    assert list(steps) == ["crop", "gauss_noise", "horizontal_flip", "color_jitter"]


def test_grocery_for_real(tmp_path: Path, grocery_root: Path) -> None:
    run = train(
        tmp_path / "run", grocery_root, "experiment=grocery_heads", "data=grocery", "data.size=32",
        "model=tiny", "trainer=debug",
    )  # fmt: skip
    val = Predictions.load(run.predictions_file("val"))
    assert sum(name.startswith("coarse=") for name in val.classes) == 43
