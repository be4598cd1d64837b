"""Callbacks that end selected jobs of a sweep in selected ways; for test_sweep.py."""

import json
import os
import signal
import time
from pathlib import Path

import torch
from pytorch_lightning import Callback


class Bomb(Callback):
    """Ends a run when its second epoch begins.

    The faults are in a file, so that they can be removed without changing the config.

    Args:
        file: JSON; name of a run folder -> ``raise`` | ``kill`` | ``exit`` | ``wait``.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        name = Path(trainer.default_root_dir).name
        fault = json.loads(self.file.read_text()).get(name)
        if fault is None or trainer.current_epoch != 1:
            return
        if fault == "raise":
            raise RuntimeError("out of luck")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            os._exit(3)
        if fault == "wait":
            Path(trainer.default_root_dir, "waiting").touch()
        while fault == "wait":
            signal.pause()


class RankBomb(Callback):
    """Ends one rank of the run whose folder is named ``job``, in its second epoch.

    Args:
        job: the run folder's name.
        fault: ``raise`` | ``kill`` | ``exit`` | ``memory``.
        file: written when it happens, because it happens only once.
    """

    def __init__(self, job: str, fault: str, file: str) -> None:
        self.job, self.fault, self.file = job, fault, Path(file)

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        selected = Path(trainer.default_root_dir).name == self.job and trainer.global_rank == 1
        if not selected or trainer.current_epoch != 1 or self.file.exists():
            return
        self.file.write_text(f"{time.time()}")
        if self.fault == "raise":
            raise RuntimeError("out of luck")
        if self.fault == "memory":
            raise torch.OutOfMemoryError("no room on rank 1")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)
