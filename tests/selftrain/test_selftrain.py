"""The command: rounds of students, their control, and what they may learn from."""

import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs_in_process import RETRIEVAL, shuffled_labels, train, weights

from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions
from product_cls.inference.soft_targets import SoftTargets
from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder
from product_cls.selftrain import __main__ as command
from product_cls.selftrain.rounds import Student, control_job, fell, load_students


def trained(folder: Path, data: Path, *words: str) -> RunFolder:
    """A run with its command, as Hydra writes it."""
    run = train(folder, data, *words)
    run.write_overrides([f"data.root={data}", f"paths.cache={folder.parent / 'cache'}", *words])
    return run


def sweep(data: Path, key: str) -> None:
    """Two runs in ``multirun/base`` of the working folder, with the values 0 and 1 of a key."""
    for value in (0, 1):
        trained(Path(f"multirun/base/{key}={value}"), data, f"{key}={value}")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tiny_root: Path) -> list[Job]:
    """Jobs run in this process; the list names them."""
    done: list[Job] = []

    def run_here(jobs: Sequence[Job], *arguments: Any) -> None:
        for job in jobs:
            words = [w for w in job.command if "=" in w and not w.startswith("hydra.")]
            trained(job.folder.path, tiny_root, *(w.replace("'", "") for w in words))
            job.state = "done"
            done.append(job)

    monkeypatch.setattr(command, "train", run_here)
    return done


def selftrain(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["selftrain", *words])
    command.main()


def test_rounds_go_on_from_their_own_weights_and_a_control_takes_as_many_steps(
    tmp_path: Path,
    tiny_root: Path,
    in_process: list[Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep(tiny_root, "seed")
    selftrain(monkeypatch, "runs=multirun/base", "rounds=2", "epochs=1")
    names = [str(job.folder.path.relative_to("multirun")) for job in in_process]
    steps = ("round-1", "round-2", "control-1", "control-2")
    assert names == [f"base-{step}/seed={seed}" for step in steps for seed in (0, 1)]
    first, second = RunFolder(in_process[0].folder.path), RunFolder(in_process[2].folder.path)
    assert first.config()["start"] == "multirun/base/seed=0/checkpoints/best.ckpt"
    assert second.config()["start"] == f"{first.path}/checkpoints/best.ckpt"

    lessons = [
        SoftTargets.load(Path(f"multirun/base-selftrain/round-{k}/lesson-0.npz")) for k in (1, 2)
    ]
    test = Predictions.load(first.predictions_file("test"))
    assert len(lessons[0].id) < len(lessons[1].id) == len(test.id)
    # 20 pictures of fold 1 and 32 of the test take as many steps as 20 in 2.6 epochs.
    control = RunFolder(in_process[6].folder.path).config()
    assert control["trainer"]["max_epochs"] == 3 and control["teacher"] is None

    with Path("multirun/base-selftrain/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["of"]) for row in rows[:6]] == [
        (step, kind) for step in ("runs", "round 1") for kind in ("mean", "sd", "vote")
    ]
    assert {"val", "test", "view 60"} <= rows[0].keys()
    assert "contests may forbid it" in capsys.readouterr().out


def test_no_test_label_changes_a_lesson_or_a_student(
    tmp_path: Path, tiny_root: Path, in_process: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, data in (("a", tiny_root), ("b", shuffled_labels(tiny_root, tmp_path / "data"))):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        trained(Path("multirun/base/default"), data)
        selftrain(monkeypatch, "runs=multirun/base", "rounds=1", "epochs=1", "control=false")
        lesson = Path("multirun/base-selftrain/round-1/lesson-0.npz").read_bytes()
        found.append((lesson, weights(in_process[-1].folder)))
    (first, before), (second, after) = found
    assert first == second
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_student_is_taught_by_runs_that_held_out_its_validation_pictures(
    tmp_path: Path, tiny_root: Path, in_process: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep(tiny_root, "fold")
    selftrain(monkeypatch, "runs=multirun/base", "rounds=1", "epochs=1", "control=false")
    teachers = [RunFolder(job.folder.path).config()["teacher"] for job in in_process]
    assert len(set(teachers)) == 2
    for fold, file in enumerate(teachers):
        alone = Predictions.load(Path(f"multirun/base/fold={fold}/predictions/test.npz"))
        lesson = SoftTargets.load(Path(file))
        rows = [alone.id.tolist().index(name) for name in lesson.id.tolist()]
        assert (lesson.scores.argmax(axis=1) == alone.scores[rows].argmax(axis=1)).all()


def test_rounds_stop_when_validation_falls(
    tmp_path: Path,
    tiny_root: Path,
    in_process: list[Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(Path("multirun/base/default"), tiny_root)
    monkeypatch.setattr("product_cls.selftrain.rounds.fell", lambda before, after: "It fell.")
    selftrain(monkeypatch, "runs=multirun/base", "rounds=3", "epochs=1", "control=false")
    assert len(in_process) == 1
    assert "Stopped after round 1: It fell. Use the runs before it." in capsys.readouterr().out


def test_validation_has_fallen_if_more_pictures_are_lost_than_chance_takes(
    tmp_path: Path, tiny_root: Path
) -> None:
    from product_cls.ensemble.members import Member

    def member(right: int) -> Member:
        target = np.zeros(100, np.int64)
        scores = np.tile(np.array([[0.1, 0.9]], np.float32), (100, 1))
        scores[:right] = scores[:right, ::-1]
        task = {"name": "single_label", "label": "label", "classes": ["a", "b"]}
        ids = np.array([f"{k:03d}" for k in range(100)])
        part = Predictions(ids, scores, scores, np.array(["a", "b"]), task, target)
        return Member("run", "group", {"val": part})

    assert fell([member(95)], [member(93)]) is None
    assert fell([member(90)], [member(97)]) is None
    sentence = fell([member(95)], [member(80)])
    assert sentence is not None and "from 95.0 to 80.0 % (15 of 100 held-out" in sentence


def test_unsuitable_runs_are_refused(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained(Path("multirun/base/default"), tiny_root)
    load_students(Path("multirun/base"))
    run.update_status(state="running", epoch=1, epochs=3)
    with pytest.raises(UserError, match=r"1 of 1 runs cannot teach: default is still running"):
        load_students(Path("multirun/base"))
    run.update_status(state="done")
    run.predictions_file("test").unlink()
    with pytest.raises(UserError, match="has no test pictures, which self-training learns from"):
        load_students(Path("multirun/base"))
    trained(Path("multirun/found/default"), tiny_root, *RETRIEVAL)
    with pytest.raises(UserError, match="is of task=retrieval; allowed: runs of"):
        load_students(Path("multirun/found"))
    shutil.rmtree("multirun/found")


def test_a_control_of_few_taught_pictures_takes_as_many_epochs(tmp_path: Path) -> None:
    from product_cls.ensemble.members import Member

    student = Student(Path("default"), "", (), 12, 100, frozenset())
    before = Member("run", "group", {}, folder=RunFolder(tmp_path))

    def epochs(asked: int | None, taught: int) -> str:
        job = control_job(student, 0, "x", before, asked, taught)
        return next(word for word in job.command if word.startswith("trainer.max_epochs="))

    assert epochs(None, 10) == "trainer.max_epochs=7"
    assert epochs(None, 300) == "trainer.max_epochs=24"
    assert epochs(5, 0) == "trainer.max_epochs=5"
