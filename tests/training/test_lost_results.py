"""Runs whose files are gone, damaged or cannot be written: made again, or one sentence."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from runs_in_process import refusal, train, weights

from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder
from product_cls.training.callbacks import checkpoint_callbacks
from product_cls.training.checkpoints import WholeCheckpoints

EPOCHS = ("trainer.max_epochs=2", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    return train(tmp_path_factory.mktemp("finished") / "run", tiny_root, *EPOCHS)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(bytes(content))


def diverge(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    content["state_dict"]["network.head.bias"].fill_(float("nan"))
    torch.save(content, file)


class LastStep(Callback):
    """Makes the weights NaN after the last step, which no loss shows."""

    def on_train_epoch_end(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        module.network.head.bias.data.fill_(float("nan"))


class Bomb(Callback):
    def on_train_epoch_end(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        raise RuntimeError("a bug\nwith details")


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("predictions/val.npz", Path.unlink, "Resuming from"),
        ("predictions/test.npz", cut, "Resuming from"),
        ("metrics.json", empty, "Resuming from"),
        ("config.yaml", Path.unlink, "Resuming from"),
        ("checkpoints/best.ckpt", Path.unlink, "best.ckpt is missing; the run starts anew"),
        ("checkpoints/best.ckpt", flip, "best.ckpt is damaged; the run starts anew"),
        ("checkpoints/best.ckpt", diverge, "best.ckpt is damaged; the run starts anew"),
    ],
)
def test_lost_outputs_of_a_finished_run_are_made_again(
    tmp_path: Path,
    tiny_root: Path,
    finished: RunFolder,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    shutil.copytree(finished.path.parent / "cache", tmp_path / "cache")
    damage(run.path / name)
    caplog.set_level("INFO")
    train(run.path, tiny_root, *EPOCHS)
    assert f"Finished earlier, but lost or damaged: {name}." in caplog.text
    assert words in caplog.text and run.status()["state"] == "done"
    assert run.metrics()["test"] == finished.metrics()["test"]
    assert weights(run)["network.head.bias"].equal(weights(finished)["network.head.bias"])
    for split in ("val", "test"):
        scores = [Predictions.load(r.predictions_file(split)).scores for r in (run, finished)]
        assert np.array_equal(*scores)
    caplog.clear()
    run.last_checkpoint.unlink()
    train(run.path, tiny_root, *EPOCHS)
    assert "nothing to do" in caplog.text and "Only last.ckpt is gone" in caplog.text


@pytest.mark.parametrize("damage", [empty, flip, Path.unlink])
def test_a_run_goes_on_from_the_best_checkpoint_if_the_last_is_damaged(
    tmp_path: Path,
    tiny_root: Path,
    finished: RunFolder,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    shutil.copytree(finished.path.parent / "cache", tmp_path / "cache")
    run.update_status(state="running")
    damage(run.last_checkpoint)
    caplog.set_level("INFO")
    train(run.path, tiny_root, *EPOCHS)
    assert "going on after epoch" in caplog.text and "from best.ckpt" in caplog.text
    assert run.metrics()["test"] == finished.metrics()["test"]
    for name, value in weights(finished).items():
        assert value.equal(weights(run)[name]), name


def test_a_checkpoint_of_another_network_is_one_sentence(
    tmp_path: Path, tiny_root: Path, finished: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    run.metrics_file.unlink()
    content = torch.load(run.last_checkpoint, weights_only=True)
    content["state_dict"]["network.head.bias"] = torch.zeros(2)
    torch.save(content, run.last_checkpoint)
    sentence = refusal(run.path, tiny_root, caplog, *EPOCHS)
    assert "last.ckpt holds weights of another network; rerun=true trains anew." in sentence


def test_a_moved_checkpoint_keeps_its_scores(tmp_path: Path, finished: RunFolder) -> None:
    moved = tmp_path / "moved" / "last.ckpt"
    moved.parent.mkdir()
    shutil.copyfile(finished.last_checkpoint, moved)
    states = WholeCheckpoints().load_checkpoint(moved)["callbacks"]
    (best,) = (x for name, x in states.items() if "'monitor': 'val/accuracy'" in name)
    callback = checkpoint_callbacks(moved.parent, "val/accuracy")[0]
    callback.load_state_dict(best)
    assert float(callback.best_model_score) == finished.status()["value"]
    assert [*callback.best_k_models] == [str(moved.parent / "best.ckpt")]


def test_a_status_that_holds_something_else(
    tmp_path: Path, tiny_root: Path, finished: RunFolder
) -> None:
    run = RunFolder(tmp_path)
    for text in ("[1, 2]", '"done"', "7", "null", "[" * 100_000):
        run.status_file.write_text(text)
        run.metrics_file.write_text(text)
        assert run.status() == {} and run.state().kind == "unreadable" and run.halved() == 0
        with pytest.raises(ValueError, match=r"metrics\.json"):
            run.metrics()
    run.status_file.write_text(json.dumps({"halved": "x"}))
    assert run.halved() == 0


def test_diverged_weights_fail_the_run(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss is finite in every step, but the last step takes the weights too far."""
    bomb = "+callbacks.bomb._target_=test_lost_results.LastStep"
    sentence = refusal(tmp_path / "run", tiny_root, caplog, bomb)
    assert sentence.startswith("Training diverged in epoch 1: the weights ")
    assert "lower optimizer.lr" in sentence
    run = RunFolder(tmp_path / "run")
    assert run.status()["state"] == "failed" and not run.best_checkpoint.exists()


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    tmp_path: Path, tiny_root: Path, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import product_cls.core.checkpoint_file as checkpoint_file

    saved, real = [], checkpoint_file.torch.save

    def save(content: object, stream: object) -> None:
        saved.append(1)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "best.ckpt")
        real(content, stream)

    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file.torch, "save", save)
        with pytest.raises(SystemExit):
            train(run.path, tiny_root, *EPOCHS)
    status = run.status()
    assert status["state"] == "failed" and "the disk is full; free some space" in status["error"]
    train(run.path, tiny_root, *EPOCHS)
    for name, value in weights(finished).items():
        assert value.equal(weights(run)[name]), name


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    sentence = refusal(tmp_path / "file" / "run", tiny_root, caplog)
    assert "cannot be read or written" in sentence and "not a folder" in sentence


def test_a_bug_keeps_its_traceback_in_the_log_file(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    sentence = refusal(run, tiny_root, caplog, "+callbacks.bomb._target_=test_lost_results.Bomb")
    assert sentence.startswith("The run failed: RuntimeError: a bug; this looks like a bug")


def test_a_kill_right_after_a_checkpoint_loses_no_row_of_the_curves(
    tmp_path: Path, tiny_root: Path, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WholeCheckpoints.save_checkpoint

    def save(self: WholeCheckpoints, content: dict[str, Any], path: Any, **rest: Any) -> None:
        real(self, content, path, **rest)
        if Path(path).name == "last.ckpt":
            raise KeyboardInterrupt

    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(WholeCheckpoints, "save_checkpoint", save)
        with pytest.raises(SystemExit):
            train(run.path, tiny_root, *EPOCHS)
    assert "Interrupted" in run.status()["error"] and run.last_checkpoint.exists()
    train(run.path, tiny_root, *EPOCHS)
    assert run.curves_file.read_text() == finished.curves_file.read_text()
