"""Hydra launcher ``processes``: each job of a sweep (``-m``) in a process of its own.

In one process a crash ends the whole sweep, memory and threads are left over from job to job, and
Lightning's DDP starts ranks that walk through the sweep again. Here a job is the command that a
user would type for it alone, with ``hydra.run.dir`` given; what it costs when it dies is that job.

Importing this module makes the launcher known to Hydra, so the entry point imports it before
``hydra.main``; it imports neither torch nor lightning, so that a sweep starts at once. Whether a
job is skipped, resumed or run anew is decided by the run (``runs.py``), under every launcher.
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from product_cls.core.errors import UserError
from product_cls.launchers.base import (
    BASIC_SWEEPER,
    PLUGIN_MODULE,
    check_folders,
    devices,
    differing,
    entry_point,
    job_return,
    quoted,
    register_launchers,
)
from product_cls.launchers.fork_server import fork_server
from product_cls.launchers.job import Job
from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus
from product_cls.launchers.run_jobs import run_jobs
from product_cls.runs.folder import RunFolder

log = logging.getLogger(__name__)


# These choose how the sweep is made, which is settled when a job starts.
SWEEP_OVERRIDES = re.compile(
    r"[+~]*hydra(\.(sweep|sweeper|launcher|mode|run)\b|/(sweeper|launcher)\b)"
)


@dataclass
class ProcessesConf:
    """``hydra/launcher=processes``; set with ``hydra.launcher.jobs=2`` and so on."""

    _target_: str = f"{PLUGIN_MODULE}.ProcessesLauncher"
    jobs: int | None = None  # at once; null: as many as the GPUs suffice for, one without GPUs
    gpus: int | None = None  # a job, where there are GPUs; null: as many as its trainer.devices
    jobs_per_gpu: int | None = None  # jobs that share a GPU, in place of `jobs`; null: one
    threads: int | None = None  # CPU threads a job; null: cores // jobs, or what the user has set
    grace: float = 30.0  # seconds to finish after Ctrl-C, before SIGTERM and then SIGKILL
    # Imported once, by a process that several jobs begin as copies of; []: each imports for itself.
    preload: list[str] = field(
        default_factory=lambda: ["product_cls.launchers.clusters", "product_cls.training.run"]
    )


class ProcessesLauncher(Launcher):
    """Started by Hydra's sweeper, with the fields of ``ProcessesConf``."""

    def __init__(
        self,
        jobs: int | None,
        gpus: int | None,
        jobs_per_gpu: int | None,
        threads: int | None,
        grace: float,
        preload: list[str],
    ) -> None:
        self.jobs, self.gpus, self.jobs_per_gpu = jobs, gpus, jobs_per_gpu
        self.threads, self.grace, self.preload = threads, grace, list(preload)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and print what came of each.

        Returns:
            One result a job; its ``return_value`` is the metric that the run left in its status.

        Raises:
            SystemExit: 2 for a mistake found before any job has started, 128 + the signal's number
                for Ctrl-C (130), SIGTERM (143) or SIGHUP, 1 when a job failed.
        """
        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        try:
            jobs = self.compose(job_overrides, initial_job_idx)
            places = self.places(len(jobs), max(devices(job.result.cfg) for job in jobs))
        except UserError as error:
            # Hydra would show it as a traceback.
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        environments = [
            job_environment(os.environ, gpus, threads=self.threads, at_once=len(places))
            for gpus in places
        ]
        log.info(f"{len(jobs)} jobs, {len(places)} at a time")
        # A lone job has nothing to share; of env_set some is read by what would be imported before.
        early = any(job.result.hydra_cfg.hydra.job.env_set for job in jobs)
        modules = self.preload if len(jobs) > 1 and not early else []
        with fork_server(modules, environments[0]) as source:
            signum = run_jobs(jobs, environments, self.grace, source)
        if signum is not None:
            raise SystemExit(128 + signum)
        # A plain sweep has nothing to do with a failure but to report it, which the table has done.
        # Optuna and others may go on (max_failure_rate), so they get the failures one by one.
        basic = self.config.hydra.sweeper.get("_target_") == BASIC_SWEEPER
        if basic and any(job.state == "failed" for job in jobs):
            raise SystemExit(1)
        return [job_return(job) for job in jobs]

    def compose(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Job]:
        """Compose all jobs before one is started, so that a mistake in the last costs nothing.

        Raises:
            UserError: two jobs share a folder, or a folder's name is too long.
            HydraException: a config cannot be composed.
        """
        assert self.config is not None and self.hydra_context is not None
        kept = [
            line for line in self.config.hydra.overrides.hydra if not SWEEP_OVERRIDES.match(line)
        ]
        base = entry_point()
        labels = differing(job_overrides)
        jobs: list[Job] = []
        for number, (overrides, label) in enumerate(
            zip(job_overrides, labels, strict=True), start=first
        ):
            config = self.hydra_context.config_loader.load_sweep_config(
                self.config, list(overrides)
            )
            with open_dict(config):
                config.hydra.job.id = str(number)
                config.hydra.job.num = number
            result = JobReturn(overrides=list(config.hydra.overrides.task))
            path = self.describe(config, result)
            command = [
                *base,
                *kept,
                *overrides,
                f"hydra.run.dir={quoted(str(path))}",
                f"hydra.job.num={number}",
                f"hydra.job.id={number}",
                "hydra.mode=RUN",  # a config that says MULTIRUN would start sweeps without end
            ]
            jobs.append(Job(number, label, RunFolder(path), command, result))
        check_folders(jobs)
        return jobs

    def describe(self, config: DictConfig, result: JobReturn) -> Path:
        """Fill what Hydra expects of a finished job, and return the job's folder."""
        singleton = HydraConfig.instance()
        earlier = singleton.cfg
        singleton.set_config(config)  # for ${hydra:...} in the folder's name
        try:
            path = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
            with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
                config.hydra.runtime.output_dir = str(path.absolute())
            singleton.set_config(config)
            result.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
        finally:
            singleton.cfg = earlier
        result.cfg = deepcopy(config)
        with read_write(result.cfg), open_dict(result.cfg):
            del result.cfg["hydra"]
        result.working_dir = str(path) if config.hydra.job.chdir else str(Path.cwd())
        result.task_name = JobRuntime.instance().get("name")
        return path

    def places(self, count: int, devices: int) -> list[str | None]:
        """One entry for each job that may run at once: the GPUs it sees, None without GPUs.

        Args:
            count: of jobs.
            devices: that the job with most of them trains on.

        Raises:
            UserError: a number out of range, or numbers that contradict each other.
        """
        for key, value, least in (
            ("jobs", self.jobs, 1),
            ("gpus", self.gpus, 1),
            ("jobs_per_gpu", self.jobs_per_gpu, 1),
            ("threads", self.threads, 1),
            ("grace", self.grace, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"hydra.launcher.{key}={value}: it must be at least {least}.")
        gpus = visible_gpus(os.environ)
        if self.jobs_per_gpu is not None and (self.jobs is not None or not gpus):
            raise UserError(
                f"hydra.launcher.jobs_per_gpu={self.jobs_per_gpu} "
                + ("and hydra.launcher.jobs contradict each other" if gpus else "without a GPU")
                + "; use only hydra.launcher.jobs to say how many jobs run at once."
            )
        return assign_gpus(gpus, self.jobs, self.gpus or devices, self.jobs_per_gpu or 1)[:count]


def register() -> None:
    """Make ``hydra/launcher=processes`` known to Hydra; a second call changes nothing."""
    register_launchers(ProcessesLauncher)
    ConfigStore.instance().store(
        group="hydra/launcher", name="processes", node=ProcessesConf, provider="product_cls"
    )


register()
