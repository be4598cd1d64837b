"""Sweeps on clusters: ``hydra/launcher=submitit_slurm``, ``ray`` and ``submitit_local``.

The engines are Hydra's plug-ins for submitit and Ray; they bring a small worker to a node. Left to
themselves they would train inside it: a run that calls ``sys.exit`` or is killed takes the worker
and with it the sweep along, Slurm's ranks and signals reach Lightning, and Ray's workers keep what
one job leaves for the next. So the worker starts the job as ``processes`` does, as the command that
a user would type, and tells the engine what came of it. Skip and resume stay the run's matter.
"""

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict, read_write

from product_cls.config.resolvers import register_resolvers
from product_cls.core.errors import UserError, reason
from product_cls.launchers.base import BASIC_SWEEPER, job_return, quoted, register_launchers
from product_cls.launchers.cluster_settings import RayConf, SubmititLocalConf, SubmititSlurmConf
from product_cls.launchers.job import Job, State, outcome
from product_cls.launchers.processes import ProcessesLauncher
from product_cls.launchers.resources import job_environment
from product_cls.launchers.run_jobs import POLL, stop
from product_cls.launchers.table import Display

log = logging.getLogger(__name__)


# A worker imports this file and nothing of train.py, and composes names of folders.
register_resolvers()


GRACE = 10.0  # seconds of a training to end after SIGINT; a requeued Slurm job has KillWait, 30


# Said by Slurm and by Ray about the job; a run uses as many threads.
CPUS_VARIABLES = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Ending:
    """What came of a job, as its worker tells the sweep."""

    state: State
    error: str
    seconds: float


@dataclass
class ClusterTask:
    """What a worker does: run one of the jobs as a process of its own and wait for it."""

    jobs: Mapping[int, Job]  # by number
    folder: Path  # where the sweep was typed

    def __call__(self, config: DictConfig) -> Ending:
        """Run the job whose number the worker was given; a job that failed is no error here."""
        # A copy: submitit pickles the task once more when Slurm wants the node back.
        job = replace(self.jobs[HydraConfig.get().job.num])
        os.chdir(self.folder)  # Ray's workers are where their cluster was started
        threads = next((os.environ[name] for name in CPUS_VARIABLES if os.environ.get(name)), None)
        environment = job_environment(
            os.environ, None, threads=int(threads) if threads else None, at_once=1
        )
        job.start(environment)
        try:
            while job.state == "running" and not job.ended(interrupted=False):
                time.sleep(POLL)
        except subprocess.CalledProcessError as error:
            # submitit's `scontrol requeue`, which Slurm ended with the job it queues again. Any
            # result would be taken for the job's; without one it is waited for.
            if error.returncode != -signal.SIGTERM:
                raise
            raise SystemExit(-1) from None
        finally:  # submitit leaves by an exception when Slurm wants the node back
            if job.state == "running":
                stop([job], GRACE, [])
        return Ending(job.state, job.error, job.seconds)


class ClusterLauncher(ProcessesLauncher):
    """Composes jobs as ``processes`` does and hands them to one of Hydra's plug-ins.

    Args:
        parameters: those of the plug-in, see ``launcher_confs.py``.
    """

    module: str  # of the plug-in
    name: str  # of its class there
    extra: str  # that installs it
    cluster: str  # in words
    left: str  # what becomes of jobs that the sweep no longer waits for

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.config = None
        self.hydra_context = None

    def engine(self) -> Launcher:
        """The plug-in's launcher.

        Raises:
            UserError: it is not installed, or is to start one job several times.
        """
        for key in ("nodes", "tasks_per_node"):
            if (value := self.parameters.get(key, 1)) != 1:
                raise UserError(f"hydra.launcher.{key}={value}: a run trains in one process; 1.")
        try:
            launcher = getattr(importlib.import_module(self.module), self.name)
        except ImportError as error:
            raise UserError(
                f"{self.cluster} needs the extra `{self.extra}`, pip install -e '.[{self.extra}]' "
                f"({reason(error)})."
            ) from None
        return launcher(**self.parameters)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs in the cluster and print what came of each.

        Returns:
            One result a job.

        Raises:
            SystemExit: 2 for a mistake found before any job was handed over, 1 when a job failed,
                130 for Ctrl-C.
        """
        assert self.config is not None and self.hydra_context is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        try:
            engine = self.engine()
            jobs = self.compose(job_overrides, initial_job_idx)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        engine.setup(
            hydra_context=self.hydra_context,
            config=placed(self.config),
            task_function=ClusterTask(
                {job.number: replace(job, result=None) for job in jobs}, Path.cwd()
            ),
        )
        for job in jobs:
            job.before = job.folder.status()
        log.info(f"{len(jobs)} jobs for {self.cluster}; each writes console.log in its folder")
        returned: Sequence[JobReturn | None] = [None] * len(jobs)
        interrupted, why = False, ""
        try:
            returned = engine.launch(job_overrides, initial_job_idx)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:  # a worker is gone, for which each engine has errors of its own
            if str(error).startswith("sbatch: "):  # its class is that of a job that fails
                print(f"error: {self.cluster} took no job: {reason(error)}.", file=sys.stderr)
                raise SystemExit(2) from None
            why = f"{self.cluster} gave up on a job: {reason(error)}"
        for job, result in zip(jobs, returned, strict=True):
            note(job, result)
        Display(jobs).summary(stopped=interrupted)
        if interrupted or why:
            print(f"{why or 'Interrupted'}. {self.left}", file=sys.stderr)
            raise SystemExit(130 if interrupted else 1)
        basic = self.config.hydra.sweeper.get("_target_") == BASIC_SWEEPER
        if basic and any(job.state == "failed" for job in jobs):
            raise SystemExit(1)
        return [job_return(job) for job in jobs]


def placed(config: DictConfig) -> DictConfig:
    """The config for workers, which compose it again from its overrides, wherever they are: the
    sweep's folder is absolute, and ``.hydra`` is left to the job."""
    config = deepcopy(config)
    folder = os.path.abspath(str(config.hydra.sweep.dir))
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = folder
        config.hydra.overrides.hydra.extend(
            [f"hydra.sweep.dir={quoted(folder)}", "hydra.output_subdir=null"]
        )
    return config


def note(job: Job, result: JobReturn | None) -> None:
    """Note what came of a job; by its folder, where no worker has said so."""
    if result is not None:
        # Hydra keeps what a worker raised in place of what it returned.
        ending = result._return_value
        if not isinstance(ending, Ending):
            ending = Ending("failed", f"its worker failed: {reason(ending)}", 0.0)
        job.state, job.error, job.seconds = ending.state, ending.error, ending.seconds
        return
    after = job.folder.status()
    if after.get("state") == "done":
        job.state, _ = outcome(0, job.before, after, changed=True)
    elif after != job.before:
        job.state = "interrupted"


class SlurmLauncher(ClusterLauncher):
    """``hydra/launcher=submitit_slurm``."""

    module = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    name, extra, cluster = "SlurmLauncher", "slurm", "Slurm"
    left = "What is in the queue stays there: squeue shows it, scancel ends it."


class SubmititLocalLauncher(ClusterLauncher):
    """``hydra/launcher=submitit_local``."""

    module = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    name, extra, cluster = "LocalLauncher", "slurm", "submitit on this machine"
    left = "The other jobs end by themselves."


class RayLauncher(ClusterLauncher):
    """``hydra/launcher=ray``."""

    module = "hydra_plugins.hydra_ray_launcher.ray_launcher"
    name, extra, cluster = "RayLauncher", "ray", "Ray"
    left = "Ray has ended the other jobs; typed again, the sweep goes on."


register_launchers(SlurmLauncher, SubmititLocalLauncher, RayLauncher)


for _name, _conf in (
    ("submitit_slurm", SubmititSlurmConf),
    ("submitit_local", SubmititLocalConf),
    ("ray", RayConf),
):
    ConfigStore.instance().store(
        group="hydra/launcher", name=_name, node=_conf, provider="product_cls"
    )
