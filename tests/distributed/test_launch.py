"""Runs on several devices, here CPU processes: equal results, and failing ranks."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from omegaconf import OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment
from runs_in_process import RETRIEVAL, refusal, train, weights
from typed_sweeps import Sweep

from product_cls.config.checks import check_config
from product_cls.distributed.launch import (
    RankFailed,
    _run_ranks,
    _watch,
    ddp_arguments,
    one_device,
)
from product_cls.inference.predictions import Predictions
from product_cls.optim.groups import Finetune
from product_cls.runs.folder import RunFolder
from product_cls.training.build import build_network
from product_cls.training.rank_worker import report_failure

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
# 28 training pictures. Of 7 validation pictures one rank takes 4, in two batches, and the other 3,
# in one batch.
UNEVEN = ("data.limit=35", "folds.n_splits=5", "trainer.log_every_n_steps=1", "optimizer.lr=0.01")


def curve(run: RunFolder, name: str) -> np.ndarray:
    return pd.read_csv(run.path / "logs" / "metrics.csv")[name].dropna().to_numpy()


@pytest.mark.slow
def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path, tiny_root: Path) -> None:
    # Without batch norm, dropout and mixing, which depend on the batch or on the rank.
    settings = (
        *UNEVEN,
        "model.backbone=test_efficientnet_gn",
        "model.drop_rate=0",
        "mix=none",
        "trainer.max_epochs=2",
    )
    one = train(tmp_path / "one", tiny_root, *settings, "data.batch_size=6")
    two = train(tmp_path / "two", tiny_root, *settings, *DDP, "data.batch_size=3")
    for name, count in (("train/loss_step", 10), ("train/loss_epoch", 2), ("val/loss", 2)):
        assert len(curve(one, name)) == count
        # Steps enlarge the rounding of the first ones, 1e-7.
        assert np.allclose(curve(one, name), curve(two, name), rtol=1e-3), name
    assert curve(one, "val/accuracy").tolist() == curve(two, "val/accuracy").tolist()
    for name, value in weights(one).items():
        assert torch.allclose(value, weights(two)[name], rtol=1e-2, atol=1e-4), name

    batches = [run.metrics()["batch"] for run in (one, two)]
    halved = {"accumulated": 1, "step": 6, "halved": 0}
    assert batches[0] == {"per_device": 6, "devices": 1} | halved
    assert batches[1] == {"per_device": 3, "devices": 2} | halved
    for split in ("val", "test"):
        alone, shared = (Predictions.load(run.predictions_file(split)) for run in (one, two))
        assert alone.id.tolist() == shared.id.tolist()
        assert len(set(shared.id)) == len(shared.id) == (7 if split == "val" else 32)
        assert np.allclose(alone.scores, shared.scores, atol=1e-3)
    assert "epoch 2/2" in two.log_file.read_text()  # by rank 0


@pytest.mark.slow
def test_predictions_match_the_validation_of_the_ranks(tmp_path: Path, tiny_root: Path) -> None:
    """With averaged weights, batch norms that differ between ranks, and a shared gallery."""
    run = train(
        tmp_path / "run",
        tiny_root,
        *UNEVEN,
        *RETRIEVAL,
        *DDP,
        "callbacks=ema",
        "data.batch_size=3",
        "trainer.max_epochs=3",
    )
    best, val = run.metrics()["best_epoch"] - 1, run.metrics()["val"]
    assert len(curve(run, "val/accuracy")) == 3
    assert val["count"] == 7
    assert val["accuracy_no_tta"] == pytest.approx(curve(run, "val/accuracy")[best], abs=1e-6)
    predictions = Predictions.load(run.predictions_file("val"))
    assert predictions.embedding is not None
    assert run.status()["value"] == pytest.approx(max(curve(run, "val/accuracy")))


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven processes that import everything; on busy cores: minutes
def test_a_rank_dies_in_a_sweep(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boom = tmp_path / "boom"
    bomb = f"{{_target_: sweep_bombs.RankBomb, job: 'seed=1', fault: exit, file: '{boom}'}}"
    small = (*DDP, "data.batch_size=4")
    sweep = Sweep(tmp_path, tiny_root, *small, "seed=0,1", bomb=bomb)
    status, output = sweep.end(sweep.start({}))
    ended = time.time()
    assert status == 1, output
    assert ended - float(boom.read_text()) < 60
    assert "1 done, 1 failed" in output, output
    good, bad = sweep.run("seed=0"), sweep.run("seed=1")
    assert good.status()["state"] == "done" and good.metrics()["batch"]["devices"] == 2
    assert bad.status()["state"] == "failed"
    assert bad.status()["error"] == "Rank 1 of 2 exited with status 3"
    assert "Rank 1 of 2 exited with status 3" in output

    with caplog.at_level(logging.INFO):
        train(good.path, tiny_root, *sweep.settings, *small, "seed=0")
        assert "Finished earlier" in caplog.text
        train(bad.path, tiny_root, *sweep.settings, *small, "seed=1")
    assert "Resuming from" in bad.log_file.read_text()  # by rank 0
    assert bad.metrics()["steps"] == 6


def process(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", f"import os, sys, time; {code}"])


def write_cause(place: Path, rank: int, **fields: Any) -> None:
    cause = {"rank": rank, "kind": "other", "text": "failed: E", "lost": False, "at": 1.0} | fields
    (place / f"cause-{rank}.json").write_text(json.dumps(cause))


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("os._exit(3)", "Rank 1 of 2 exited with status 3"),
        ("os.kill(os.getpid(), 9)", "Rank 1 of 2 was killed by SIGKILL"),
    ],
)
def test_a_dead_rank_is_noticed_and_blamed(tmp_path: Path, ending: str, error: str) -> None:
    """The other rank reports a lost connection first, as ranks in a collective do."""
    write_cause(tmp_path, 0, text="failed: Connection closed by peer", lost=True)
    ranks = {0: process("sys.exit(1)"), 1: process(f"time.sleep(0.5); {ending}")}
    with pytest.raises(RankFailed, match=error):
        _watch(ranks, tmp_path, 2)


def test_the_earliest_cause_is_reported(tmp_path: Path) -> None:
    write_cause(tmp_path, 0, text="failed: later", at=2.0)
    write_cause(tmp_path, 1, text="failed: first", at=1.0)
    with pytest.raises(RankFailed, match="Rank 1 of 2 failed: first"):
        _watch({0: process("sys.exit(1)"), 1: process("sys.exit(1)")}, tmp_path, 2)


def test_user_errors_and_out_of_memory_errors_keep_their_type(
    tmp_path: Path, refused: Refused
) -> None:
    write_cause(tmp_path, 0, kind="user", text="Lower optimizer.lr.")
    with refused("Lower optimizer.lr."):
        _watch({0: process("sys.exit(1)")}, tmp_path, 2)
    write_cause(tmp_path, 0, kind="memory", text="no room")
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        _watch({0: process("sys.exit(1)")}, tmp_path, 2)


def test_a_stopped_rank_prints_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path = tmp_path / "ranks"
    tmp_path.mkdir()
    report_failure(tmp_path, 1, KeyboardInterrupt())
    assert capsys.readouterr().err == ""
    report_failure(tmp_path, 1, ValueError("a mistake"))
    assert capsys.readouterr().err == "[rank 1] ValueError: a mistake\n"
    assert "ValueError: a mistake" in (tmp_path.parent / "train.log").read_text()


def test_no_rank_outlives_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, Any]]
) -> None:
    """Interrupted while it waits, the run stops its ranks, which ignore Ctrl-C."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(real([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[-1]

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("product_cls.distributed.launch.subprocess.Popen", start)
    monkeypatch.setattr("product_cls.distributed.launch._watch", interrupted)
    config = OmegaConf.create(composed("trainer=ddp"))
    with pytest.raises(KeyboardInterrupt):
        _run_ranks(config, RunFolder(tmp_path), {}, "127.0.0.1", 1)
    assert len(started) == 2 and all(rank.poll() is not None for rank in started)


@pytest.mark.parametrize("count", [1, 2])
def test_slurm_variables_are_ignored(
    monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, Any]], count: int
) -> None:
    """In a batch script with --ntasks=4, Lightning would expect four ranks."""
    for name, value in {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "batch",
        "SLURM_JOB_ID": "7",
    }.items():
        monkeypatch.setenv(name, value)
    trainer = composed("trainer.accelerator=cpu")["trainer"]
    assert one_device(trainer).world_size == 1
    (environment,) = ddp_arguments(count, Finetune())["plugins"]
    assert isinstance(environment, LightningEnvironment)


def test_runs_that_do_not_suit_several_devices(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    few = ("data.limit=8", "trainer.devices=8")
    monkeypatch.setattr("product_cls.config.checks.usable_cores", lambda: 8)
    assert "too few for 8 devices" in refusal(run, tiny_root, caplog, *DDP, *few)
    assert "sync_batchnorm=true" in refusal(
        run, tiny_root, caplog, *DDP, "trainer.sync_batchnorm=true"
    )
    run = tmp_path / "none"  # a wrong environment is refused before anything is moved
    for number in ("", "first"):
        monkeypatch.setenv("NODE_RANK", number)
        sentence = refusal(run, tiny_root, caplog, *DDP, "trainer.num_nodes=2")
        assert "NODE_RANK=0 to 1" in sentence and "MASTER_PORT" in sentence
        assert not (run / "config.yaml").exists()


def test_settings_that_do_not_suit_several_devices(
    monkeypatch: pytest.MonkeyPatch,
    composed: Callable[..., dict[str, Any]],
    refused: Refused,
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with refused("trainer.accelerator=gpu", "allowed: auto, cpu"):
        check_config(OmegaConf.create(composed("trainer=ddp", "trainer.accelerator=gpu")))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_config(OmegaConf.create(composed("trainer=ddp")))
    with refused("trainer.devices=4", "2 GPUs"):
        check_config(OmegaConf.create(composed("trainer=ddp", "trainer.devices=4")))
    with refused("trainer.strategy=fsdp", "ddp"):
        check_config(OmegaConf.create(composed("trainer=ddp", "trainer.strategy=fsdp")))
    with refused("oom_retries=1", "trainer.num_nodes=2"):
        check_config(
            OmegaConf.create(composed("trainer=ddp", "trainer.num_nodes=2", "oom_retries=1"))
        )


def test_joined_batch_norms_keep_their_activations(composed: Callable[..., dict[str, Any]]) -> None:
    class Linear:
        @staticmethod
        def head(features: int) -> torch.nn.Module:
            torch.manual_seed(1)
            return torch.nn.Linear(features, 3)

    def outputs(*overrides: str) -> tuple[torch.Tensor, set[str]]:
        torch.manual_seed(0)
        config = OmegaConf.create(composed("trainer=ddp", "model=tiny", *overrides))
        network = build_network(config, Linear(), (32, 32)).eval()  # type: ignore[arg-type]
        pictures = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).remainder(256).byte()
        kinds = {type(part).__name__ for part in network.modules()}
        return network(network.prepare(pictures)), kinds

    plain, _ = outputs()
    joined, kinds = outputs("trainer.sync_batchnorm=true")
    assert "SyncBatchNormAct" in kinds and "BatchNormAct2d" not in kinds
    assert joined.equal(plain)
