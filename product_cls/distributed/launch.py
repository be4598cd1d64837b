"""Runs on several devices: the run's own process starts one process per device, a rank, and waits.

The run's process prepares everything (pictures, folds, checks), starts the ranks, watches them, and
then predicts on one device; it is not a rank itself. It therefore notices at once when a rank dies.
The other ranks cannot notice it, because they wait for the dead rank inside a collective; the run's
process stops them and reports the error of the rank that failed first. Ranks get the resolved
config and do not use Hydra: nothing is composed twice, and no sweep starts again. They rendezvous
in a store on a port that the run's process holds, so that two runs on one machine cannot take the
same port.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import SIGABRT
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed import DistNetworkError, DistStoreError, TCPStore

from product_cls.config.batch import world_size
from product_cls.config.values import trainer_precision
from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.core.process_environment import RANK_VARIABLES, THREAD_VARIABLES, describe_exit
from product_cls.optim.groups import Finetune
from product_cls.runs.folder import RunFolder

POLL = 0.1  # seconds between two checks of the ranks
SETTLE = 5.0  # seconds to wait for the cause of the rank that failed first
AFTER_SIGTERM = 3.0  # seconds until SIGKILL: a rank inside a collective ignores SIGTERM
FIRST_MACHINE = timedelta(hours=1)  # how long other machines wait; the first may render pictures


class RankFailed(RuntimeError):
    """A rank has failed; the message names the rank and its error."""


@dataclass(frozen=True)
class Cause:
    """Why a rank ended.

    Attributes:
        rank: number of the rank.
        kind: ``user`` (a ``UserError``), ``memory`` (out of GPU memory) or ``other``.
        text: one sentence, or the message of the exception.
        lost: the rank ended because another one was gone, so it is not the cause.
        at: time of the end, seconds since 1970.
    """

    rank: int
    kind: str
    text: str
    lost: bool
    at: float


def node_rank(config: DictConfig) -> int:
    """Number of this machine among ``trainer.num_nodes``, from ``NODE_RANK``; the first is 0."""
    number = os.environ.get("NODE_RANK", "")  # `rendezvous` refuses other values than numbers
    several = config.trainer.get("num_nodes", 1) != 1
    return int(number) if several and number.isdigit() else 0


def ddp_arguments(count: int, finetune: Finetune) -> dict[str, Any]:
    """Arguments of the ``Trainer`` of a rank, or of a process that trains alone.

    Buffers are not broadcast. ``collectives.average_statistics`` does better, and a broadcast in
    each batch would hang in validation, where ranks have different numbers of batches.

    Args:
        count: number of ranks.
        finetune: the run's; if it freezes layers, DDP must search for unused parameters, which is
            slower.
    """
    # Set explicitly, because Lightning would pick the environment of Slurm or Kubernetes if it
    # finds their variables.
    plugins = [LightningEnvironment()]
    if count == 1:
        return {"strategy": "auto", "plugins": plugins}
    # Frozen parameters get no gradient, and DDP waits for all gradients unless told otherwise.
    frozen = finetune.freeze != 0
    return {
        "strategy": DDPStrategy(broadcast_buffers=False, find_unused_parameters=frozen),
        "plugins": plugins,
        "use_distributed_sampler": False,
    }


def one_device(trainer: Mapping[str, Any]) -> pl.Trainer:
    """A trainer on one device, to predict with after training on several."""
    return pl.Trainer(
        accelerator=trainer["accelerator"],
        devices=1,
        precision=trainer_precision(trainer),  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train_in_ranks(config: DictConfig, folder: RunFolder, plan: Mapping[str, Any]) -> None:
    """Start the ranks of this machine and wait until they have trained; none outlives this call.

    Args:
        config: the run's config.
        folder: the run's folder.
        plan: plain values from which a rank rebuilds the run's plan.

    Raises:
        UserError, torch.OutOfMemoryError: raised in a rank.
        RankFailed: a rank failed for another reason.
    """
    orders = {**plan, "folder": str(folder.path.absolute())}
    if config.trainer.get("num_nodes", 1) == 1:
        store, host = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), "127.0.0.1"
    else:
        host, port = rendezvous(config)
        store = _store(host, port, is_master=True)
        store.set("orders", json.dumps(orders))
    _run_ranks(config, folder, orders, host, store.port)


def join_ranks(config: DictConfig, folder: RunFolder) -> None:
    """On every machine but the first: wait for the orders of the first, then run the local ranks.

    Args:
        config: the run's config.
        folder: where this machine keeps files for its ranks.

    Raises:
        UserError: the first machine did not start within an hour, or a rank raised it.
        RankFailed: a rank failed for another reason.
    """
    host, port = rendezvous(config)
    store = _store(host, port, is_master=False)
    store.set_timeout(FIRST_MACHINE)
    _run_ranks(config, folder, json.loads(store.get("orders")), host, port)


def rendezvous(config: DictConfig) -> tuple[str, int]:
    """Address and port of the first of several machines, from the environment.

    Raises:
        UserError: ``NODE_RANK``, ``MASTER_ADDR`` or ``MASTER_PORT`` is missing or wrong.
    """
    nodes, names = config.trainer.num_nodes, ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    number, host, port = (os.environ.get(name, "") for name in names)
    if not (number.isdigit() and int(number) < nodes and host and port.isdigit()):
        raise UserError(
            f"trainer.num_nodes={nodes} needs the same command on each machine, with NODE_RANK=0 "
            f"to {nodes - 1}, MASTER_ADDR (the first machine) and MASTER_PORT (a free port there) "
            f"in its environment; here these are '{number}', '{host}' and '{port}'."
        )
    return host, int(port)


def _store(host: str, port: int, *, is_master: bool) -> TCPStore:
    try:
        return TCPStore(
            host, port, is_master=is_master, wait_for_workers=False, timeout=FIRST_MACHINE
        )
    except (DistNetworkError, DistStoreError) as error:
        raise UserError(
            f"The machines cannot connect at MASTER_ADDR={host}, MASTER_PORT={port}: "
            f"{reason(error)}."
        ) from None


def _run_ranks(
    config: DictConfig, run: RunFolder, orders: Mapping[str, Any], host: str, port: int
) -> None:
    devices, first = config.trainer.devices, node_rank(config) * config.trainer.devices
    # In the run's folder, because the temporary folder may be full.
    folder = (run.path / f".ranks-{node_rank(config)}").absolute()
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    processes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        (folder / "orders.json").write_text(json.dumps(orders))
        for local in range(devices):
            processes[first + local] = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "product_cls.training.rank_worker",
                    str(folder),
                    str(os.getpid()),
                ],
                env=_environment(config, local, host, port),
                stdin=subprocess.DEVNULL,
                stdout=None if first + local == 0 else subprocess.DEVNULL,
            )
        _watch(processes, folder, world_size(config.trainer))
    finally:
        _stop(list(processes.values()))
        shutil.rmtree(folder, ignore_errors=True)


def _environment(config: DictConfig, local: int, host: str, port: int) -> dict[str, str]:
    """The environment that torchrun would give a rank, with the rank's share of the threads."""
    devices, number = config.trainer.devices, node_rank(config)
    inherited = {k: value for k, value in os.environ.items() if k not in RANK_VARIABLES}
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(limit) if limit.isdigit() else usable_cores()
    return inherited | {
        "RANK": str(number * devices + local),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(devices * config.trainer.get("num_nodes", 1)),
        "LOCAL_WORLD_SIZE": str(devices),
        "NODE_RANK": str(number),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        # torchrun sets this when it holds the store, so that rank 0 does not open one.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        # The ranks can import what this process can, wherever the entry point lies.
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        **dict.fromkeys(THREAD_VARIABLES, str(max(1, threads // devices))),
    }


def _watch(processes: Mapping[int, "subprocess.Popen[bytes]"], folder: Path, world: int) -> None:
    """Return when all ranks have finished; raise as soon as one fails.

    Args:
        processes: rank -> process, of this machine.
        folder: where ranks leave their causes.
        world: number of ranks on all machines.
    """
    while not any(codes := [process.poll() for process in processes.values()]):
        if None not in codes:
            return
        time.sleep(POLL)
    deadline = time.time() + SETTLE
    silent: dict[int, Cause] = {}  # failed ranks, with the cause to report if they leave none
    while True:
        for rank, process in processes.items():
            if process.poll() and rank not in silent:
                code = process.returncode
                text = f"was {describe_exit(code)}" if code < 0 else describe_exit(code)
                # A process group that loses a peer may abort the process.
                silent[rank] = Cause(rank, "other", text, code == -SIGABRT, time.time())
        causes = list((silent | {cause.rank: cause for cause in read_causes(folder)}).values())
        first_causes = [cause for cause in causes if not cause.lost]
        if first_causes or len(silent) == len(processes) or time.time() > deadline:
            break
        time.sleep(POLL)
    cause = min(first_causes or causes, key=lambda cause: cause.at)
    if cause.kind == "user":
        raise UserError(cause.text)
    if cause.kind == "memory":
        raise torch.OutOfMemoryError(cause.text)
    raise RankFailed(f"Rank {cause.rank} of {world} {cause.text}")


def read_causes(folder: Path) -> list[Cause]:
    """The causes that ranks have written to ``folder`` before they ended."""
    return [Cause(**json.loads(file.read_text())) for file in folder.glob("cause-*.json")]


def _stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + AFTER_SIGTERM
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
