"""Sweeps on clusters: ``hydra/launcher=submitit_slurm``, ``ray`` and ``submitit_local``.

Hydra's plugins for submitit and Ray start a small worker on a node. By default they would train
inside the worker. Then a run that calls ``sys.exit`` or is killed would end the worker and the
sweep, Slurm's ranks and signals would reach Lightning, and jobs would leave memory and threads
behind in Ray's workers. Therefore the worker starts the job as ``processes`` does, with the command
that a user would type, and reports its outcome. The run still decides whether to skip or resume.
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

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict, read_write

from product_cls.config.resolvers import register_resolvers
from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.launchers.base import BASIC_SWEEPER, job_return, quoted
from product_cls.launchers.job import Job, State, outcome
from product_cls.launchers.pool import POLL, stop
from product_cls.launchers.processes import ProcessesLauncher
from product_cls.launchers.resources import job_environment
from product_cls.launchers.table import Display

log = logging.getLogger(__name__)

# Workers do not import train.py, but need its resolvers for the names of run folders.
register_resolvers()

GRACE = 10.0  # seconds from SIGINT to SIGTERM; Slurm's KillWait, 30, bounds a requeued job
# Slurm and Ray put the job's number of CPUs into these; a run uses as many threads.
CPUS_VARIABLES = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of a job, which its worker sends to the sweep."""

    state: State
    error: str
    seconds: float


@dataclass
class ClusterTask:
    """A worker's task: run one job as a process and wait until it ends."""

    jobs: Mapping[int, Job]  # by number
    folder: Path  # the working directory of the sweep's command

    def __call__(self, config: DictConfig) -> JobOutcome:
        """Run the job whose number is in Hydra's config; a failed job raises nothing."""
        # A copy, because submitit pickles the task again when Slurm requeues the job.
        job = replace(self.jobs[HydraConfig.get().job.num])
        os.chdir(self.folder)  # Ray's workers start in the directory of their cluster
        threads = next((os.environ[name] for name in CPUS_VARIABLES if os.environ.get(name)), None)
        environment = job_environment(
            os.environ, None, threads=int(threads) if threads else None, at_once=1
        )
        job.start(environment)
        try:
            while job.state == "running" and not job.ended(interrupted=False):
                time.sleep(POLL)
        except subprocess.CalledProcessError as error:
            # Slurm ended submitit's `scontrol requeue` together with the job that it requeues. A
            # result now would count as the job's; without one, the sweep keeps waiting.
            if error.returncode != -signal.SIGTERM:
                raise
            raise SystemExit(-1) from None
        finally:  # submitit raises an exception here when it requeues the job
            if job.state == "running":
                stop([job], GRACE, [])
        return JobOutcome(job.state, job.error, job.seconds)


class ClusterLauncher(ProcessesLauncher):
    """Composes jobs as ``processes`` does and submits them through one of Hydra's plugins.

    Args:
        parameters: settings of the plugin, see ``cluster_settings.py``.
    """

    module: str  # module of the plugin
    name: str  # its launcher class
    extra: str  # the extra of product-cls that installs it
    cluster: str  # its name in messages
    remaining: str  # what happens to jobs that the sweep no longer waits for

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.config = None
        self.hydra_context = None

    def engine(self) -> Launcher:
        """The plugin's launcher.

        Raises:
            UserError: the plugin is not installed, or a setting would start each job several times.
        """
        for key in ("nodes", "tasks_per_node"):
            if (value := self.parameters.get(key, 1)) != 1:
                raise UserError(f"hydra.launcher.{key}={value}; allowed: 1 (a job is one process).")
        try:
            launcher = getattr(importlib.import_module(self.module), self.name)
        except ImportError as error:
            raise missing_extra(
                f"{self.cluster} needs its plugin ({reason(error)})", self.extra
            ) from None
        return launcher(**self.parameters)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs in the cluster and print a table of their outcomes.

        Returns:
            One result per job.

        Raises:
            SystemExit: 2 for a mistake found before any job is submitted, 1 if a job failed, 130
                for Ctrl-C.
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
            config=worker_config(self.config),
            task_function=ClusterTask(
                {job.number: replace(job, hydra_result=None) for job in jobs}, Path.cwd()
            ),
        )
        for job in jobs:
            job.status_before = job.folder.status()
        log.info(f"{len(jobs)} jobs for {self.cluster}; each writes console.log in its folder")
        returned: Sequence[JobReturn | None] = [None] * len(jobs)
        interrupted, failure = False, ""
        try:
            returned = engine.launch(job_overrides, initial_job_idx)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:  # a worker is lost; each engine has its own exceptions
            if str(error).startswith("sbatch: "):  # submitit uses one class for this and lost jobs
                print(f"error: {self.cluster} took no job: {reason(error)}.", file=sys.stderr)
                raise SystemExit(2) from None
            failure = f"{self.cluster} gave up on a job: {reason(error)}"
        for job, result in zip(jobs, returned, strict=True):
            record_outcome(job, result)
        Display(jobs).summary(stopped=interrupted)
        if interrupted or failure:
            print(f"{failure or 'Interrupted'}. {self.remaining}", file=sys.stderr)
            raise SystemExit(130 if interrupted else 1)
        basic = self.config.hydra.sweeper.get("_target_") == BASIC_SWEEPER
        if basic and any(job.state == "failed" for job in jobs):
            raise SystemExit(1)
        return [job_return(job) for job in jobs]


def worker_config(config: DictConfig) -> DictConfig:
    """The config for workers, which compose it again in another directory.

    The sweep's folder is therefore made absolute, and only the job writes ``.hydra``.
    """
    config = deepcopy(config)
    folder = os.path.abspath(str(config.hydra.sweep.dir))
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = folder
        config.hydra.overrides.hydra.extend(
            [f"hydra.sweep.dir={quoted(folder)}", "hydra.output_subdir=null"]
        )
    return config


def record_outcome(job: Job, result: JobReturn | None) -> None:
    """Set a job's state from its worker's result, or from its folder if there is no result."""
    if result is not None:
        # Hydra puts an exception of the worker in place of its return value.
        value = result._return_value
        if not isinstance(value, JobOutcome):
            value = JobOutcome("failed", f"its worker failed: {reason(value)}", 0.0)
        job.state, job.error, job.seconds = value.state, value.error, value.seconds
        return
    after = job.folder.status()
    if after.get("state") == "done":
        job.state, _ = outcome(0, job.status_before, after, changed=True)
    elif after != job.status_before:
        job.state = "interrupted"


class SlurmLauncher(ClusterLauncher):
    """``hydra/launcher=submitit_slurm``."""

    module = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    name, extra, cluster = "SlurmLauncher", "slurm", "Slurm"
    remaining = "Queued jobs stay in the queue: squeue shows them, scancel ends them."


class SubmititLocalLauncher(ClusterLauncher):
    """``hydra/launcher=submitit_local``."""

    module = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    name, extra, cluster = "LocalLauncher", "slurm", "submitit on this machine"
    remaining = "The other jobs run to their end."


class RayLauncher(ClusterLauncher):
    """``hydra/launcher=ray``."""

    module = "hydra_plugins.hydra_ray_launcher.ray_launcher"
    name, extra, cluster = "RayLauncher", "ray", "Ray"
    remaining = "Ray has ended the other jobs; the same command continues the sweep."
