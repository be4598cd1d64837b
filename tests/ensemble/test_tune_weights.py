"""Weights of groups of runs, on made-up runs of two models over two folds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Refused

from product_cls.ensemble.__main__ import main
from product_cls.ensemble.members import Member
from product_cls.ensemble.system import blend_runs
from product_cls.ensemble.tune_weights import find_weights
from product_cls.inference.predictions import Predictions
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
TASK = {"name": "single_label", "label": "label", "classes": ["a", "b", "c"]}
TRUTH = np.random.default_rng(0).integers(3, size=400)


def predicted(rows: np.ndarray, skill: float, seed: int, prefix: str = "v") -> Predictions:
    """Probabilities that favour the truth by ``skill``, with different noise for each run."""
    logits = np.random.default_rng(seed).normal(size=(len(rows), 3))
    logits[np.arange(len(rows)), TRUTH[rows]] += skill
    odds = np.exp(logits)
    scores = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    return Predictions(
        id=np.array([f"{prefix}{k}" for k in rows]),
        scores=scores,
        scores_no_tta=scores[:, :],
        classes=np.array(["a", "b", "c"]),
        task=TASK,
        target=TRUTH[rows],
    )


def made_run(group: str, fold: int, seed: int, skill: float, folds: int = 2) -> Member:
    number = 1000 * fold + 100 * seed + 10 * len(group)
    splits = {
        "val": predicted(np.arange(fold, 400, folds), skill, number),
        "test": predicted(np.arange(50), skill, number + 1, "t"),
    }
    return Member(f"{group},fold={fold},seed={seed}", group, splits)


def made_runs(good: float = 3.0, bad: float = 0.0, seeds: int = 1) -> list[Member]:
    """A good group with ``seeds`` seeds per fold, and a bad group with one."""
    runs = [made_run("good", f, s, good) for f in (0, 1) for s in range(seeds)]
    return runs + [made_run("bad", f, 0, bad) for f in (0, 1)]


@pytest.mark.parametrize("how", ["greedy", "optimised"])
def test_weights_of_a_group_are_divided_over_its_runs(how: str) -> None:
    runs = made_runs(2.0, 2.0, seeds=2)
    tuned = find_weights(runs, how, "mean")
    good, bad = tuned.runs[:4], tuned.runs[4:]
    assert len(set(good)) == len(set(bad)) == 1
    assert np.mean(tuned.runs) == pytest.approx(1)
    share = sum(good) / 6
    assert f"{share:.3f} good" in tuned.sentences[0] and 0.5 < share < 0.9
    # The vote on a fold's pictures equals the vote of the groups that was tuned.
    val = blend_runs(runs, "mean", tuned.runs).splits["val"]
    of_good, of_bad = (blend_runs(part, "mean").splits["val"] for part in (runs[:4], runs[4:]))
    assert val.scores == pytest.approx(
        share * of_good.scores + (1 - share) * of_bad.scores, abs=1e-6
    )


def test_uneven_seeds_count_as_one_fold_each() -> None:
    runs = [*made_runs(2.0, 1.5), made_run("good", 0, 1, 2.0)]
    tuned = find_weights(runs, "optimised", "mean")
    assert tuned.runs[0] == tuned.runs[4] == pytest.approx(tuned.runs[1] / 2)


def test_useless_group_gets_no_weight_and_val_is_cross_fitted() -> None:
    runs = made_runs(6.0, 0.0)
    tuned = find_weights(runs, "greedy", "mean")
    assert tuned.runs == pytest.approx([2, 2, 0, 0])
    alone = blend_runs(runs[:2], "mean").splits["val"]
    assert sorted(tuned.val.id) == sorted(alone.id)
    # The other fold gives the same weights, so the cross-fitted scores are those of the good group.
    row = {name: k for k, name in enumerate(alone.id)}
    expected = alone.scores[[row[name] for name in tuned.val.id]]
    assert tuned.val.scores == pytest.approx(expected, abs=1e-6)
    assert tuned.val.scores_no_tta == pytest.approx(expected, abs=1e-6)
    assert "cross-fitted over 2 folds" in tuned.sentences[1] and len(tuned.sentences) == 2


def of_several(part: Predictions, task: str, skill: float, seed: int) -> Predictions:
    """The same pictures with two labels each, some unknown: two binary labels, or two heads of two
    and three classes."""
    rng, kinds = np.random.default_rng(seed), (2, 2 if task == "multi_label" else 3)
    target = np.stack([part.target % kind for kind in kinds], axis=1)
    odds = [rng.normal(size=(len(target), kind)) for kind in kinds]
    for k, logits in enumerate(odds):
        logits[np.arange(len(target)), target[:, k]] += skill
    heads = [np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) for logits in odds]
    classes = {"a": ["0", "1"], "b": ["0", "1", "2"]}
    names = [f"{head}={name}" for head, listed in classes.items() for name in listed]
    spec: dict[str, object] = {"heads": {head: {"classes": of} for head, of in classes.items()}}
    if task == "multi_label":
        heads, names, spec = [head[:, 1:] for head in heads], ["a", "b"], {"labels": ["a", "b"]}
    target[part.id == part.id[3], 1] = -1
    scores = np.concatenate(heads, axis=1).astype(np.float32)
    return replace(
        part,
        scores=scores,
        scores_no_tta=scores,
        classes=np.array(names),
        task={"name": task, **spec},
        target=target,
    )


@pytest.mark.parametrize(
    ("task", "measure"), [("multi_label", "accuracy"), ("multi_head", "mean_f1")]
)
@pytest.mark.parametrize("how", ["greedy", "optimised"])
def test_weights_of_runs_with_several_labels(task: str, measure: str, how: str) -> None:
    runs = [
        replace(
            run,
            splits={
                split: of_several(part, task, 6.0 if run.group == "good" else 0.0, k)
                for split, part in run.splits.items()
            },
        )
        for k, run in enumerate(made_runs())
    ]
    tuned = find_weights(runs, how, "mean")
    assert tuned.runs == pytest.approx([2, 2, 0, 0], abs=0.05)
    assert f"{measure} cross-fitted over 2 folds" in tuned.sentences[1]
    before, after = (
        float(part.split(" %")[0].split()[-1]) for part in tuned.sentences[1].split("), ", 1)
    )
    val = tuned.val.make_task()
    assert after == pytest.approx(
        100 * val.evaluate(tuned.val.scores, tuned.val.target)[measure], abs=0.01
    )
    assert after > before
    weighed = blend_runs(runs, "mean", tuned.runs).splits["test"]
    good = blend_runs(runs[:2], "mean").splits["test"]
    assert weighed.scores == pytest.approx(good.scores, abs=0.03)


def test_lack_of_gain_is_reported() -> None:
    runs = made_runs(2.0, 2.0)
    tuned = find_weights(runs, "greedy", "mean")
    before, after = (
        float(part.split("log loss ")[1].split(")")[0])
        for part in tuned.sentences[1].split(", ")[1:]
    )
    assert after == pytest.approx(before, abs=0.003)
    assert (after >= before) is (len(tuned.sentences) == 3)


def test_one_fold_is_divided_at_random() -> None:
    runs = [made_run("good", 0, 0, 3.0), made_run("bad", 0, 0, 0.0)]
    assert "5 random parts of one fold" in find_weights(runs, "greedy", "mean").sentences[1]


def test_warning_about_views_that_only_the_test_has() -> None:
    def seen(run: Member, val: list[int], test: list[int]) -> Member:
        views = {"val": np.resize(val, 200), "test": np.resize(test, 50)}
        return replace(run, splits={k: replace(run.splits[k], view=views[k]) for k in views})

    def last(val: list[int], test: list[int]) -> str:
        runs = [seen(run, val, test) for run in made_runs()]
        return find_weights(runs, "greedy", "mean").sentences[-1]

    assert "views that no held-out picture has (60)" in last([0, 30], [0, 30, 60])
    assert "folds.strategy=view" not in last([0, 30], [0, 30])
    assert "folds.strategy=view" not in last([0], [0, 30, 60])  # which these folds do


def test_runs_without_weights_to_find(refused: Refused) -> None:
    runs = made_runs()
    with refused("weights=best; allowed: greedy, optimised, [one number per run], or null"):
        find_weights(runs, "best", "mean")
    with refused("weights=greedy", "method=mean, not for method=gmean"):
        find_weights(runs, "greedy", "gmean")
    with refused("there is only one: good"):
        find_weights(runs[:2], "greedy", "mean")
    with refused("'bad' and 'good' held out different ones", "train the same folds"):
        find_weights([runs[0], *runs[2:]], "greedy", "mean")
    final = replace(runs[0], name="final", splits={"test": runs[0].splits["test"]})
    with refused("run 'final' held none out (fold=all)"):
        find_weights([*runs, final], "greedy", "mean")
    features = Gallery(
        id=np.array(["a"]),
        path=np.array(["a.png"]),
        target=np.zeros(1, np.int64),
        classes=np.array(["x"]),
        embedding=np.ones((1, 1), np.float32),
        embedding_no_tta=np.ones((1, 1), np.float32),
    )
    with refused("is for softmax runs", "'good,fold=0,seed=0' is a retrieval run"):
        find_weights([replace(runs[0], gallery=features), *runs[1:]], "greedy", "mean")
    several = of_several(runs[0].splits["val"], "multi_label", 1.0, 0)
    with refused("one is of task=multi_label, the other of task=single_label"):
        find_weights([replace(runs[0], splits={"val": several}), *runs[1:]], "greedy", "mean")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Run folders of two models over two folds, without training."""
    for name, skill in (("good", 3.0), ("bad", 0.5)):
        for fold in (0, 1):
            folder = RunFolder(tmp_path / "sweep" / f"fold={fold},model={name}")
            for split, part in made_run(name, fold, 0, skill).splits.items():
                part.save(folder.predictions_file(split))
            folder.config_file.write_text(yaml.safe_dump({"model": {"backbone": name}}))
            folder.update_status(state="done")
    return tmp_path / "sweep"


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def test_the_command_finds_and_records_weights(saved: Path, command: Command) -> None:
    status, output, errors = command(f"runs={saved}", "weights=greedy")
    assert status == 0, errors
    assert "Weights, greedy: " in output and " good." in output
    assert "Out of fold, accuracy cross-fitted over 2 folds: equal weights " in output
    table = pd.read_csv(saved / "ensemble" / "table.csv")
    table = table[table["tta"]].set_index("run")
    weights = table["weight"].iloc[:4]
    assert weights.mean() == pytest.approx(1, abs=1e-3)
    assert weights["fold=0,model=good"] == weights["fold=1,model=good"] > 1
    assert table["weight"].iloc[4:].isna().all()
    val = Predictions.load(saved / "ensemble" / "predictions" / "val.npz")
    accuracy = 100 * (val.scores.argmax(1) == val.target).mean()
    assert table["val"].iloc[-1] == pytest.approx(accuracy, abs=1e-3)
    assert f"greedy {accuracy:.2f} %" in output  # the table shows the cross-fitted figure
    assert "cross-fitted" in (saved / "ensemble" / "table.md").read_text()

    listed_weights = ",".join(str(weight) for weight in weights)
    out = saved.parent / "given"
    assert command(f"runs={saved}", f"weights=[{listed_weights}]", f"out={out}")[0] == 0
    again = Predictions.load(out / "predictions" / "test.npz")
    first = Predictions.load(saved / "ensemble" / "predictions" / "test.npz")
    assert again.scores == pytest.approx(first.scores, abs=1e-4)
    recorded = pd.read_csv(out / "table.csv")
    assert recorded["weight"].iloc[:4].tolist() == pytest.approx(weights.tolist())
    assert command(f"runs={saved}", f"out={out}")[0] == 0
    assert "weight" not in pd.read_csv(out / "table.csv")


@pytest.mark.parametrize("weights", ["5", "[a,b]", "[true,1,1,1]", "best"])
def test_wrong_weights(saved: Path, command: Command, weights: str) -> None:
    status, _, errors = command(f"runs={saved}", f"weights={weights}")
    assert status == 2 and "allowed: greedy, optimised, [one number per run]" in errors
    assert errors.count("\n") == 1
