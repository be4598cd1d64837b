"""A callback that ends chosen jobs of a sweep in chosen ways; for test_sweep.py."""

import json
import os
import signal
import time
from pathlib import Path

import torch
from pytorch_lightning import Callback


class Bomb(Callback):
    """Reads what to do from a file, so that the cause can go away without changing the config.

    Args:
        file: JSON, a run folder's name -> ``raise`` | ``kill`` | ``exit`` | ``wait``. It happens
            when the second epoch begins.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        name = Path(trainer.default_root_dir).name
        deed = json.loads(self.file.read_text()).get(name)
        if deed is None or trainer.current_epoch != 1:
            return
        if deed == "raise":
            raise RuntimeError("out of luck")
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "exit":
            os._exit(3)
        if deed == "wait":
            Path(trainer.default_root_dir, "waiting").touch()
        while deed == "wait":
            signal.pause()


class RankBomb(Callback):
    """Ends one rank of the run whose folder is named ``job``, in its second epoch.

    Args:
        job: the run folder's name.
        deed: ``raise`` | ``kill`` | ``exit`` | ``memory``.
        file: where it is written that it happened; it does so once.
    """

    def __init__(self, job: str, deed: str, file: str) -> None:
        self.job, self.deed, self.file = job, deed, Path(file)

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        mine = Path(trainer.default_root_dir).name == self.job and trainer.global_rank == 1
        if not mine or trainer.current_epoch != 1 or self.file.exists():
            return
        self.file.write_text(f"{time.time()}")
        if self.deed == "raise":
            raise RuntimeError("out of luck")
        if self.deed == "memory":
            raise torch.OutOfMemoryError("no room on rank 1")
        if self.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)
