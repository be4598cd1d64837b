"""Runs in this process, as `python train.py` does them, without the imports of a new process."""

import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from pytorch_lightning import Callback

from product_cls.config.compose import compose_config
from product_cls.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]

# The smallest complete run: 4 classes, a network that takes milliseconds, one epoch.
TINY = (
    "data=competition",
    "data.size=32",
    "data.batch_size=8",
    "model=tiny",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "folds.n_splits=2",
)
RETRIEVAL = ("task=retrieval", "model.pooling=gem", "task.embedding=16")
# An index needs similarities that differ; after one epoch with defaults, all are above .99.
INDEXED = (
    *RETRIEVAL,
    "task.gallery_every=0",
    "mix=none",
    "augment=none",
    "trainer.max_epochs=3",
    "optimizer.lr=0.01",
)


def train(folder: Path, data: Path, *overrides: str) -> RunFolder:
    """Train in ``folder`` on the competition's layout at ``data``; ``overrides`` come last.

    Raises:
        SystemExit: as `python train.py` would exit.
    """
    from product_cls.training.run import run

    config = compose_config(
        [*TINY, f"data.root={data}", f"paths.cache={folder.parent / 'cache'}", *overrides],
        return_hydra_config=True,
    )
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.job.override_dirname = ""
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, None)
    with open_dict(config):
        del config["hydra"]
    run(config)
    return RunFolder(folder)


class Stop(Callback):
    """Raises in the middle of an epoch, as a crash would, while ``armed``."""

    armed = False

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        if trainer.current_epoch == self.epoch and batch_idx == 1 and Stop.armed:
            raise RuntimeError("the power failed")


def train_interrupted(folder: Path, data: Path, *overrides: str, epoch: int) -> RunFolder:
    """``train``, interrupted in the middle of ``epoch`` (counted from 0) and then resumed."""
    stop = f"+callbacks.stop={{_target_: runs_in_process.Stop, epoch: {epoch}}}"
    Stop.armed = True
    try:
        with pytest.raises(SystemExit):
            train(folder, data, stop, *overrides)
    finally:
        Stop.armed = False
    status = RunFolder(folder).status()
    assert (status["state"], status["epoch"]) == ("failed", epoch)
    assert status["error"] == "RuntimeError: the power failed"
    run = train(folder, data, stop, *overrides)
    assert run.status()["state"] == "done"
    return run


def refusal(run: Path, data: Path, caplog: pytest.LogCaptureFixture, *overrides: str) -> str:
    """The error message of a run that is refused."""
    caplog.clear()
    with pytest.raises(SystemExit) as exit_:
        train(run, data, *overrides)
    assert exit_.value.code == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and errors[0].exc_info is None, errors
    assert "\n" not in errors[0].getMessage()
    return errors[0].getMessage()


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    """Weights after the last epoch, by name."""
    checkpoint = torch.load(run.last_checkpoint, weights_only=True)
    return dict(checkpoint["state_dict"])


def shuffled_labels(root: Path, out: Path) -> Path:
    """A copy of the data with the labels of its test pictures permuted."""
    shutil.copytree(root, out)
    table = pd.read_csv(out / "views.csv", dtype=str)
    test = table["split"] == "test"
    table.loc[test, "label"] = table.loc[test, "label"].to_numpy()[::-1]
    table.to_csv(out / "views.csv", index=False)
    return out
