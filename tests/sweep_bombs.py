"""A callback that ends chosen jobs of a sweep in chosen ways; for test_sweep.py."""

import json
import os
import signal
from pathlib import Path

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
