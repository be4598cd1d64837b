"""``product-cls train`` and ``python train.py``: the Hydra application.

Imports neither torch nor Lightning, which take seconds, so that errors on the command line appear
at once.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from product_cls.config.command_line import is_job, read_command_line
from product_cls.config.compose import conf_folder
from product_cls.config.resolvers import register_resolvers
from product_cls.config.sentences import sentence
from product_cls.core.cli import closed_pipe_exits
from product_cls.core.errors import UserError
from product_cls.core.files import storage_sentence
from product_cls.core.interrupts import interrupt_exits
from product_cls.core.names import shown

FULL_ERROR = "HYDRA_FULL_ERROR"  # environment variable of Hydra


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def train(config: DictConfig) -> float | None:
    """Train one run in the folder that Hydra created."""
    from product_cls.training.run import run

    if not gc.get_freeze_count():  # the first of several jobs in this process
        gc.freeze()  # imported objects live until the end; collections need not visit them
    return run(config)


def main() -> None:
    """Read the command line and train; with ``-m``, sweep."""
    register_resolvers()
    # Of the user; the jobs of a sweep inherit the one that is set below.
    debugging = os.environ.get(FULL_ERROR) == "1" and not is_job(sys.argv)
    with closed_pipe_exits(), interrupt_exits(), hydra_raises():
        try:
            sys.argv[1:] = read_command_line(sys.argv[1:])
            train()
        except Exception as error:
            told = told_of(error)
            if debugging or told is None:
                raise
            print(f"error: {told}", file=sys.stderr)
            raise SystemExit(2) from None


@contextmanager
def hydra_raises() -> Iterator[None]:
    """In the block, Hydra raises its errors instead of printing them."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def told_of(error: Exception) -> str | None:
    """What kept a run or sweep from beginning, as a sentence; None for a bug.

    Args:
        error: of the command line, or of the disk on which Hydra creates folders and logs.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return shown(sentence(error))
    # `logging` wraps the error of a log file.
    cause = error.__cause__ if isinstance(error, ValueError) else error
    if not isinstance(cause, OSError):
        return None
    refused = storage_sentence(cause)
    if refused is None and cause.filename is not None:
        return f"{shown(str(cause.filename))} cannot be created: {cause.strerror}."
    return None if refused is None else shown(refused)
