"""``teacher=`` and ``start=``: answers and initial weights that a run takes from others."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from runs_in_process import RETRIEVAL, refusal, shuffled_labels, train, weights

from product_cls.ensemble.teacher import read_teacher
from product_cls.inference.predictions import Predictions
from product_cls.inference.soft_targets import SoftTargets
from product_cls.runs.folder import RunFolder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    """A finished run of fold 0."""
    return train(tmp_path_factory.mktemp("teacher") / "run", tiny_root)


def test_test_pictures_are_learned_by_the_teachers_answers(
    tmp_path: Path, tiny_root: Path, teacher: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = read_teacher(teacher.path)
    test = Predictions.load(teacher.predictions_file("test"))
    told = np.tile(np.eye(4, dtype=np.float32)[2], (len(test.id), 1))  # all are of one class
    SoftTargets(test.id, told, np.ones(len(told), np.float32), answers.classes).save(
        tmp_path / "told.npz"
    )
    words = ("trainer.max_epochs=5", "optimizer.lr=0.01", "augment=none", "mix=none")
    alone = train(tmp_path / "alone", tiny_root, *words)
    run = train(tmp_path / "run", tiny_root, f"teacher={tmp_path / 'told.npz'}", *words)
    assert f"{len(test.id)} of them are test pictures without a label" in caplog.text
    before, after = (Predictions.load(r.predictions_file("test")).scores for r in (alone, run))
    assert after[:, 2].mean() > before[:, 2].mean() + 0.2


def test_no_test_label_is_read(tmp_path: Path, tiny_root: Path, teacher: RunFolder) -> None:
    other = shuffled_labels(tiny_root, tmp_path / "data")
    words = ("loss=distill", f"teacher={teacher.path}")
    first = train(tmp_path / "first", tiny_root, *words)
    again = train(tmp_path / "again", other, *words)
    before, after = weights(first), weights(again)
    assert all(torch.equal(before[name], after[name]) for name in before)
    one, two = (Predictions.load(run.predictions_file("test")) for run in (first, again))
    assert (one.scores == two.scores).all()
    assert (one.target != two.target).any()


def test_a_held_out_picture_is_never_learned(tmp_path: Path, tiny_root: Path) -> None:
    """A teacher of another fold answers for pictures that the student validates with."""
    teacher = train(tmp_path / "teacher", tiny_root, "fold=1")
    plain = read_teacher(teacher.path)
    student = train(tmp_path / "student", tiny_root, "loss=distill", f"teacher={teacher.path}")
    val = Predictions.load(student.predictions_file("val")).id
    known = ~np.isin(plain.id, val)
    SoftTargets(plain.id[known], plain.scores[known], plain.weight[known], plain.classes).save(
        tmp_path / "without.npz"
    )
    other = train(
        tmp_path / "other", tiny_root, "loss=distill", f"teacher={tmp_path / 'without.npz'}"
    )
    before, after = weights(student), weights(other)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_labelled_pictures_learn_answers_with_distill_alone(
    tmp_path: Path, tiny_root: Path, teacher: RunFolder
) -> None:
    answers = read_teacher(teacher.path)
    labelled = ~np.isin(answers.id, Predictions.load(teacher.predictions_file("test")).id)
    assert labelled.any()
    wrong = SoftTargets(
        answers.id[labelled],
        np.roll(answers.scores[labelled], 1, axis=1),
        answers.weight[labelled],
        answers.classes,
    )
    wrong.save(tmp_path / "wrong.npz")
    words = ("fold=1", f"teacher={tmp_path / 'wrong.npz'}")
    plain = weights(train(tmp_path / "plain", tiny_root, "fold=1"))
    by_labels = weights(train(tmp_path / "labels", tiny_root, *words))
    distilled = weights(train(tmp_path / "distilled", tiny_root, "loss=distill", *words))
    name = next(name for name in plain if "head" in name)
    assert torch.allclose(plain[name], by_labels[name], atol=1e-6)
    assert not torch.allclose(plain[name], distilled[name], atol=1e-6)


def test_start_goes_on_from_a_runs_backbone_and_head(
    tmp_path: Path, tiny_root: Path, teacher: RunFolder
) -> None:
    still = ("trainer.max_epochs=1", "optimizer.lr=1e-12", "scheduler.end_lr=0")
    run = train(tmp_path / "run", tiny_root, f"start={teacher.best_checkpoint}", *still)
    before = torch.load(teacher.best_checkpoint, weights_only=True)["state_dict"]
    after = weights(run)
    parameters = [k for k in before if "running" not in k and "num_batches" not in k]
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in parameters)
    assert json.loads(run.metrics_file.read_text())["weights"]["source"] == str(
        teacher.best_checkpoint
    )


def test_a_retrained_teacher_trains_its_student_anew(tmp_path: Path, tiny_root: Path) -> None:
    words = (tmp_path / "student", tiny_root, f"teacher={tmp_path / 'teacher'}")
    train(tmp_path / "teacher", tiny_root)
    first = train(*words).status()["fingerprint"]
    assert train(*words).status()["fingerprint"] == first
    train(tmp_path / "teacher", tiny_root, "seed=1")
    assert train(*words).status()["fingerprint"] != first


def test_bad_teachers_are_refused(
    tmp_path: Path, tiny_root: Path, teacher: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*words: str) -> str:
        return refusal(tmp_path / "run", tiny_root, caplog, *words)

    assert "there is no such file or folder" in refused("teacher=nowhere")
    assert "loss=distill learns a teacher's answers; set teacher" in refused("loss=distill")
    assert "does not go with task=retrieval" in refused(*RETRIEVAL, f"teacher={teacher.path}")
    assert "per_class=2 draws pictures by their labels" in refused(
        "data.per_class=2", f"teacher={teacher.path}"
    )
    answers = read_teacher(teacher.path)
    odd = tmp_path / "odd.npz"
    renamed = np.array(["0", "1", "2", "11"])
    SoftTargets(answers.id, answers.scores, answers.weight, renamed).save(odd)
    assert "a teacher has the classes of its student" in refused(f"teacher={odd}")
    strangers = np.array([f"x{k}" for k in range(len(answers.id))])
    SoftTargets(strangers, answers.scores, answers.weight, answers.classes).save(odd)
    assert "has no answer for any of this run's" in refused(f"teacher={odd}")
    odd.write_bytes(odd.read_bytes()[:200])
    assert "is not a file of soft targets" in refused(f"teacher={odd}")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    RunFolder(unfinished).update_status(state="running", epoch=1, epochs=3)
    assert "is still running (after epoch 1 of 3)" in refused(f"teacher={unfinished}")
    assert "There is no checkpoint" in refused("start=nowhere.ckpt")
    assert "has model.pooling=avg, and this run gem" in refused(
        f"start={teacher.best_checkpoint}", "model.pooling=gem"
    )
