"""Joined retrieval runs, and their share beside softmax runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_in_process import train

from product_cls.ensemble.__main__ import main
from product_cls.ensemble.members import load_members
from product_cls.ensemble.retrieval_members import (
    RetrievalRun,
    blend_share,
    cross_fit_share,
    join_out_of_fold,
    join_runs,
    tune_share,
)
from product_cls.ensemble.system import blend_runs
from product_cls.inference.predictions import Predictions
from product_cls.retrieval.gallery import Gallery

Command = Callable[..., tuple[int, str, str]]
CLASSES = ["a", "b", "c"]
RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def probabilities(right: np.ndarray, sure: float) -> np.ndarray:
    """``sure`` for one class per row; the others share the rest."""
    scores = np.full((len(right), 3), (1 - sure) / 2, np.float32)
    scores[np.arange(len(right)), right] = sure
    return scores


def predicted(ids: list[str], scores: np.ndarray, **more: object) -> Predictions:
    task = {"name": "retrieval", "label": "label", "classes": CLASSES, "vote": {"k": 3}}
    target = np.array([int(name.split("-")[1]) for name in ids])
    return Predictions(np.array(ids), scores, scores, np.array(CLASSES), task, target, **more)  # type: ignore[arg-type]


def made_run(name: str, axes: np.ndarray, held_out: list[int]) -> RetrievalRun:
    """Thirty pictures of three classes around given axes ``[3, D]``; some are validation."""
    ids = [f"{k}-{k % 3}" for k in range(30)]
    target = np.arange(30) % 3
    gallery = unit(axes[target] + 0.3 * RNG.normal(size=(30, axes.shape[1])))
    queries = unit(axes[[0, 1, 2, 0]] + 0.3 * RNG.normal(size=(4, axes.shape[1])))

    def part(ids: list[str], embedding: np.ndarray) -> Predictions:
        scores = probabilities(np.zeros(len(ids), int), 0.5)
        both = {"embedding": embedding, "embedding_no_tta": embedding}
        head = {"class_scores": scores, "class_scores_no_tta": scores}
        return predicted(ids, scores, **both, **head)

    splits = {
        "val": part([ids[k] for k in held_out], gallery[held_out]),
        "test": part(["t0-0", "t1-1", "t2-2", "t3-0"], queries),
    }
    features = Gallery(
        np.array(ids), np.array(ids), target, np.array(CLASSES), gallery, gallery.copy()
    )
    return RetrievalRun(name, splits, features)


def test_joined_networks_separate_classes_that_neither_separates() -> None:
    """One network separates a from the rest, the other b; only both together separate all three."""
    first_run = made_run("one", np.array([[1.0, 0], [0, 1], [0, 1]]), [0, 1, 2])
    second_run = made_run("two", np.array([[1.0, 0], [0, 1], [1, 0]]), [0, 1, 2])
    joined = join_runs([first_run, second_run], "test")
    assert (joined.scores.argmax(1) == joined.target).all()
    assert joined.embedding is None and joined.class_scores is None
    # The cosine of joined embeddings is the mean of the cosines.
    cosine = sum(
        run.splits["test"].embedding @ run.gallery.embedding.T  # type: ignore[operator]
        for run in (first_run, second_run)
    )
    nearest = np.argsort(-cosine[0])[:3]
    votes = np.bincount(first_run.gallery.target[nearest], cosine[0][nearest], minlength=3)
    assert joined.scores[0] == pytest.approx(votes / votes.sum(), abs=1e-5)
    # A run of weight 0 has no influence.
    alone = join_runs([first_run, second_run], "test", [1, 0])
    assert alone.scores == pytest.approx(join_runs([first_run], "test").scores, abs=1e-6)


def test_held_out_pictures_are_joined_fold_by_fold() -> None:
    axes = np.eye(3)
    runs = [made_run(f"{f}", axes, list(range(f, 30, 2))) for f in (0, 1)]
    runs += [made_run(f"other {f}", axes, list(range(f, 30, 2))) for f in (0, 1)]
    val = join_out_of_fold(runs)
    assert sorted(val.id) == sorted(runs[0].gallery.id)
    assert (val.scores.argmax(1) == val.target).all()
    first = join_runs([runs[0], runs[2]], "val")
    assert val.scores[:15] == pytest.approx(first.scores)


def test_better_system_gets_the_share(refused) -> None:  # type: ignore[no-untyped-def]
    ids = [f"{k}-{k % 3}" for k in range(12)]
    truth = np.arange(12) % 3
    good = predicted(ids, probabilities(truth, 0.9))
    bad = predicted(ids[::-1], probabilities((truth[::-1] + 1) % 3, 0.9))
    assert tune_share(good, bad)[0] == 0.0 and tune_share(bad, good)[0] == 1.0
    assert tune_share(good, good)[0] == 0.5  # all the same
    half = np.where(np.arange(12) % 2, truth, (truth + 1) % 3)
    other = np.where(np.arange(12) % 2, (truth + 2) % 3, truth)
    share, errors = tune_share(
        predicted(ids, probabilities(half, 0.9)), predicted(ids, probabilities(other, 0.9))
    )
    assert share == 0.5 and errors.argmin() == 10 and len(errors) == 21
    mixed = blend_share(good, bad, 0.25)
    assert mixed.scores[0, 0] == pytest.approx(0.75 * 0.9 + 0.25 * 0.05, abs=1e-6)
    with refused("the softmax runs", "the retrieval runs", "different pictures"):
        blend_share(good, predicted(["x-0"], probabilities(truth[:1], 0.9)), 0.5)


def test_a_share_is_not_judged_by_the_pictures_that_it_is_tuned_on() -> None:
    """Two systems of pure chance: in-sample, the tuned share gains; cross-fitted, it does not."""
    rng = np.random.default_rng(0)
    gains: dict[str, list[float]] = {"in-sample": [], "cross-fitted": []}
    ids = [f"{k}-{k % 3}" for k in range(30)]
    for _ in range(60):
        softmax, retrieval = (predicted(ids, rng.dirichlet(np.ones(3), 30)) for _ in range(2))
        truth = np.eye(3)[softmax.target]

        def brier(joint: Predictions, truth: np.ndarray = truth) -> float:
            return float(np.square(joint.scores - truth).sum(axis=1).mean())

        half = brier(blend_share(softmax, retrieval, 0.5))
        best = blend_share(softmax, retrieval, tune_share(softmax, retrieval)[0])
        gains["in-sample"].append(half - brier(best))
        crossed = cross_fit_share(softmax, retrieval, np.arange(30) % 5)
        gains["cross-fitted"].append(half - brier(crossed))
        assert crossed.id.tolist() == ids
    assert np.mean(gains["in-sample"]) > 0 > np.mean(gains["cross-fitted"])
    # By hand: the part in which the first system is wrong is voted on with the share of the other.
    good, bad = probabilities(np.arange(30) % 3, 0.9), probabilities((np.arange(30) + 1) % 3, 0.9)
    early = (np.arange(30) < 15)[:, None]
    first, second = np.where(early, good, bad), np.where(early, bad, good)
    crossed = cross_fit_share(predicted(ids, first), predicted(ids, second), np.arange(30) // 15)
    assert crossed.scores == pytest.approx(np.where(early, second, first))


def test_other_galleries_cannot_be_joined(refused) -> None:  # type: ignore[no-untyped-def]
    first_run, second_run = made_run("one", np.eye(3), [0]), made_run("two", np.eye(3), [0])
    fewer = RetrievalRun("two", second_run.splits, second_run.gallery.rows(np.arange(20)))
    with refused("'one'", "'two'", "galleries"):
        join_runs([first_run, fewer], "test")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> tuple[Path, Path]:
    """Two folds of a softmax and of a retrieval system."""
    root = tmp_path_factory.mktemp("joint")
    tasks = {"softmax": (), "retrieval": ("task=retrieval", "task.embedding=16")}
    for name, overrides in tasks.items():
        for fold in (0, 1):
            train(root / name / f"fold={fold}", tiny_root, f"fold={fold}", *overrides)
    return root / "softmax", root / "retrieval"


@pytest.fixture
def command(run_command) -> Command:  # type: ignore[no-untyped-def]
    return run_command(main)


def test_the_command_joins_and_blends(
    sweeps: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    status, _, errors = command(f"runs=[{sweeps[0]},{sweeps[1]}]", f"out={tmp_path}")
    assert status == 0, errors
    table = pd.read_csv(tmp_path / "table.csv")
    names = table[table["tta"]]["run"].tolist()
    assert any("joined features of 2 runs" in name for name in names)
    assert any("vote of 2 runs" in name for name in names)
    assert "retrieval, tuned on 40 held-out pictures" in names[-1]
    blended = Predictions.load(tmp_path / "predictions" / "test.npz")
    assert np.allclose(blended.scores.sum(axis=1), 1, atol=1e-5)
    assert (tmp_path / "submission.csv").is_file()

    runs, _ = load_members(list(sweeps))
    softmax = blend_runs(runs[:2], "mean").splits["test"]
    retrieval = blend_runs(runs[2:], "mean").splits["test"]
    joint = blend_runs(runs, "mean", share=0.25).splits["test"]
    assert joint.scores == pytest.approx(0.75 * softmax.scores + 0.25 * retrieval.scores, abs=1e-6)


def test_a_fold_that_one_system_lacks_takes_no_part_in_tuning(sweeps: tuple[Path, Path]) -> None:
    runs, _ = load_members(list(sweeps))
    some = blend_runs([runs[0], *runs[2:]], "mean")
    assert some.source == "tuned on 20 held-out pictures" and len(some.splits["val"].id) == 20
    assert "cross-fitted over 5 random parts of one fold" in some.notes[0]
    assert "cross-fitted over 2 folds" in blend_runs(runs, "mean").notes[0]
    assert sorted(some.splits["val"].id) == sorted(runs[0].splits["val"].id)
    assert len(some.splits["test"].id) == 32
    none = blend_runs([runs[0], runs[3]], "mean")
    assert (none.share, none.source) == (0.5, "nothing to tune it on")
    assert set(none.splits) == {"test"}


def test_wrong_commands(sweeps: tuple[Path, Path], command: Command) -> None:
    for words, expected in (
        ((f"runs=[{sweeps[0]},{sweeps[0]}]",), "runs names a folder twice"),
        ((f"runs=[{sweeps[0]},{sweeps[1]}]", "share=2"), "share=2"),
    ):
        status, _, errors = command(*words)
        assert status == 2 and expected in errors and errors.count("\n") == 1


def test_a_retrieval_sweep_alone_is_joined(sweeps: tuple[Path, Path]) -> None:
    runs, _ = load_members([sweeps[1]])
    whole = blend_runs(runs, "mean")
    assert whole.share is None and set(whole.splits) == {"val", "test"}
    assert len(whole.splits["val"].id) == 40
