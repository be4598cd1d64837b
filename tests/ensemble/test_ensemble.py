"""Soft votes, with values of the published implementations, and the ensemble command."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_in_process import train

from product_cls.core.arrays import StoredArray
from product_cls.core.errors import UserError
from product_cls.ensemble.__main__ import main
from product_cls.ensemble.blend_folders import blend_folders
from product_cls.ensemble.members import load_members
from product_cls.ensemble.system import Blended, blend_runs
from product_cls.ensemble.table import ensemble_table, group_votes
from product_cls.ensemble.voting import blend, blend_predictions, out_of_fold
from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder

TASK = {"name": "single_label", "label": "label", "classes": ["a", "b", "c"]}


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def made(scores: np.ndarray, ids: str = "xyz", classes: str = "abc") -> Predictions:
    return Predictions(
        id=np.array(list(ids)),
        scores=scores.astype(np.float32),
        scores_no_tta=scores.astype(np.float32),
        classes=np.array(list(classes)),
        task=TASK,
        target=np.zeros(len(ids), np.int64),
    )


A = softmax(np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
B = softmax(np.array([[0.0, 3, 0], [0, 1, 1], [1, 0, 0]]))


def test_votes_of_the_published_implementations() -> None:
    """Two runs, the second with the classes in reverse."""
    scores = softmax(np.array([[2.0, 0, -1], [0.5, 1.5, 0], [0, 0, 3], [1, -1, 0.5]]))
    both = [scores, scores[:, ::-1]]
    mean = [[0.4429024003, 0.1141951994], [0.1857341404, 0.6285317192]]
    assert blend(both)[:2, :2] == pytest.approx(np.array(mean), abs=1e-8)
    geometric = [[0.1882760542, 0.1141951994], [0.1800773525, 0.6285317192]]
    assert blend(both, "gmean")[:2, :2] == pytest.approx(np.array(geometric), abs=1e-8)
    sharpened = [
        [0.5832173315, 0.2127874544, 0.5832173315],
        [0.6738914594, 0.2787392673, 0.6738914594],
    ]
    assert blend(both, "sharpened")[2:] == pytest.approx(np.array(sharpened), abs=1e-8)


def test_blends_by_hand() -> None:
    scores = np.array([[[0.81, 0.19]], [[0.25, 0.75]]])
    assert blend(scores) == pytest.approx(np.array([[0.53, 0.47]]))
    assert blend(scores, "gmean") == pytest.approx(np.array([[0.45, np.sqrt(0.19 * 0.75)]]))
    expected = [[0.7, (np.sqrt(0.19) + np.sqrt(0.75)) / 2]]
    assert blend(scores, "sharpened") == pytest.approx(np.array(expected))
    assert blend(scores, weights=[3, 1]) == pytest.approx(np.array([[0.67, 0.33]]))
    # A certain "no" of one run does not make the logarithm infinite.
    assert np.isfinite(blend(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]), "gmean")).all()


def test_wrong_methods_and_weights() -> None:
    scores = np.stack([A, B])
    for arguments, words in (
        ({"method": "median"}, "method=median; allowed: mean, gmean, sharpened"),
        ({"weights": [1]}, "allowed: 2 numbers"),
        ({"weights": [1, -1]}, "0 or more"),
        ({"weights": [0, 0]}, "not all of them 0"),
    ):
        with pytest.raises(UserError, match=words):
            blend(scores, **arguments)  # type: ignore[arg-type]


def test_runs_are_aligned_by_id() -> None:
    shuffled = made(B[[2, 0, 1]], ids="zxy")
    blended = blend_predictions([("one", made(A)), ("two", shuffled)])
    assert blended.id.tolist() == ["x", "y", "z"]
    assert blended.scores == pytest.approx((A + B) / 2, abs=1e-6)


def test_blended_scores_are_probabilities_whatever_the_method() -> None:
    for method in ("mean", "gmean", "sharpened"):
        blended = blend_predictions([("one", made(A)), ("two", made(B))], method)
        assert blended.scores.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_other_ids_or_classes_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"'one' and 'two' .* different pictures \(3 and 3 ids, 2 in"
    ):
        align([("one", made(A)), ("two", made(B, ids="xyw"))])
    with pytest.raises(UserError, match=r"'one' and 'two' .* classes differ .*only one has 'c'"):
        align([("one", made(A)), ("two", made(B, classes="abd"))])
    with pytest.raises(UserError, match="their 3 classes are not in the same order"):
        align([("one", made(A)), ("two", made(B, classes="acb"))])
    several = replace(
        made(B), task={"name": "multi_label", "labels": [*"abc"]}, target=np.zeros((3, 3))
    )
    with pytest.raises(UserError, match="one is of task=single_label, the other of task=multi_lab"):
        align([("one", made(A)), ("two", several)])


def test_out_of_fold_blends_runs_of_the_same_fold() -> None:
    parts = [
        ("b0 fold 0", made(A[:2], ids="xy")),
        ("b0 fold 1", made(A[2:], ids="z")),
        ("b1 fold 0", made(B[:2], ids="xy")),
    ]
    whole = out_of_fold(parts)
    assert whole.id.tolist() == ["x", "y", "z"]
    assert whole.scores == pytest.approx(np.vstack([(A[:2] + B[:2]) / 2, A[2:]]), abs=1e-6)
    with pytest.raises(UserError, match="overlap"):
        out_of_fold([("one", made(A[:2], ids="xy")), ("two", made(B[:2], ids="yz"))])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Two folds, a failed run and a run of trainer=debug."""
    root = tmp_path_factory.mktemp("sweep") / "tiny"
    for fold in (0, 1):
        train(root / f"fold={fold}", tiny_root, f"fold={fold}")
    failed = RunFolder(root / "a fold=7")  # first by name, and without config.yaml
    failed.update_status(state="failed", error="fold=7 does not exist; allowed: 0, 1, all.")
    train(root / "debug", tiny_root, "trainer=debug")
    return root


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def test_table_shows_runs_their_mean_and_the_ensemble(
    sweep: Path, tiny_root: Path, command: Command
) -> None:
    status, output, _ = command(f"runs={sweep}")
    assert status == 0
    assert "LEFT OUT: a fold=7 failed: fold=7 does not exist" in output
    assert "LEFT OUT: debug saw a part of the pictures only" in output
    both = pd.read_csv(sweep / "ensemble" / "table.csv")
    table = both[both["tta"]].drop(columns="tta").reset_index(drop=True)
    plain = both[~both["tta"]]
    assert table["run"].tolist() == [
        "fold=0",
        "fold=1",
        "mean of 2 runs: test_efficientnet",
        "ensemble of 2 runs (mean)",
    ]
    views = ["test view 0", "test view 30", "test view 60"]
    assert list(table.columns) == ["run", "val", "test", *views]
    runs, _ = load_members([sweep])
    blended = Predictions.load(sweep / "ensemble" / "predictions" / "test.npz")
    parts = [run.splits["test"].scores for run in runs]
    assert blended.scores == pytest.approx(np.mean(parts, axis=0), abs=1e-6)
    accuracy = (blended.scores.argmax(1) == blended.target).mean()
    assert table["test"].iloc[-1] == pytest.approx(100 * accuracy, abs=1e-3)
    without = (blended.scores_no_tta.argmax(1) == blended.target).mean()
    assert plain["test"].iloc[-1] == pytest.approx(100 * without, abs=1e-3)
    mean = table["test"].iloc[:2].mean()
    assert table["test"].iloc[2] == pytest.approx(mean, abs=1e-3)
    validation = Predictions.load(sweep / "ensemble" / "predictions" / "val.npz")
    assert len(validation.id) == len(set(validation.id)) == 40

    submission = pd.read_csv(sweep / "ensemble" / "submission.csv")
    sample = pd.read_csv(tiny_root / "sample.csv")
    assert list(submission.columns) == ["filename", "prediction"]
    assert submission["filename"].tolist() == sample["filename"].tolist()
    decided = dict(zip(blended.id, blended.classes[blended.scores.argmax(1)], strict=True))
    first = submission.iloc[0]
    assert str(first["prediction"]) == decided[f"test/{first['filename']}"]


def test_groups_of_folds_get_their_own_vote(sweep: Path) -> None:
    runs, _ = load_members([sweep])
    others = [type(run)(f"b1,{run.name}", "b1", run.splits) for run in runs]
    every = [*runs, *others]
    blended, votes = Blended({"test": runs[0].splits["test"]}), group_votes(every, "mean")
    table = ensemble_table(every, blended, votes, "mean")
    assert [name for name in table["run"] if "vote" in name] == [
        "vote of 2 runs: b1",
        "vote of 2 runs: test_efficientnet",
    ]


def test_single_run_folders_name_the_runs(sweep: Path) -> None:
    roots = [sweep / "fold=0", sweep / "fold=1"]
    runs, _ = load_members(roots)
    assert [run.name for run in runs] == [str(root) for root in roots]
    assert runs[0].group == runs[1].group  # one vote of two folds


def test_a_run_of_weight_zero_is_left_out(sweep: Path) -> None:
    runs, _ = load_members([sweep])
    blended = blend_runs(runs, "mean", [1, 0]).splits
    assert blended["test"].scores == pytest.approx(runs[0].splits["test"].scores, abs=1e-6)
    assert blended["val"].id.tolist() == runs[0].splits["val"].id.tolist()


def test_blend_folders_writes_nothing_unless_asked(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(sweep.rglob("*"))
    result = blend_folders([sweep], device="cpu", out=tmp_path / "out")
    again = blend_folders([str(sweep)], weights=[1, 1], device="cpu")
    assert sorted(sweep.rglob("*")) == before and capsys.readouterr().out == ""
    stored = Predictions.load(tmp_path / "out" / "predictions" / "test.npz")
    np.testing.assert_array_equal(result.splits["test"].scores, stored.scores)
    np.testing.assert_array_equal(again.splits["test"].scores, stored.scores)
    assert [reason.split(" ")[0] for reason in result.left_out] == ["a", "debug"]
    assert pd.read_csv(tmp_path / "out" / "table.csv").shape == result.table().shape
    with pytest.raises(UserError, match="runs is empty"):
        blend_folders([])


def test_scores_of_one_run_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for k in range(6):
        made(A if k % 2 else B).save(tmp_path / f"{k}.npz")
        runs.append((str(k), Predictions.load(tmp_path / f"{k}.npz", stored=True)))
    references: list[weakref.ref[np.ndarray]] = []
    counts = []
    read = StoredArray.read

    def counted(stored: StoredArray) -> np.ndarray:
        array = read(stored)
        references.append(weakref.ref(array))
        counts.append(sum(reference() is not None for reference in references))
        return array

    monkeypatch.setattr(StoredArray, "read", counted)
    blended = blend_predictions(runs)
    assert len(counts) == 2 * 6 and max(counts) <= 2  # the next is read before the last is freed
    assert blended.scores == pytest.approx((A + B) / 2, abs=1e-6)


def test_wrong_commands(sweep: Path, tmp_path: Path, command: Command) -> None:
    for words, expected in (
        ((f"runs={tmp_path / 'absent'}",), "There is no folder"),
        ((f"runs={sweep}", "weights=[1,2,3]"), "allowed: 2 numbers, one each for fold=0, fold=1"),
        ((f"runs={sweep / 'a fold=7'}",), "can be blended"),
    ):
        status, _, errors = command(*words)
        assert status == 2
        assert errors.startswith("error: ") and expected in errors
        assert errors.count("\n") == 1
