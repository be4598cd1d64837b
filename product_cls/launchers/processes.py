"""Hydra launcher ``processes``: each job of a sweep (``-m``) runs in its own process.

In a single process, a crash would end the whole sweep, memory and threads would leak from job to
job, and Lightning's DDP would start ranks that repeat the sweep. Here a job is the command that a
user would type to run it alone, plus ``hydra.run.dir``, and a crash costs only that job.

``hydra_plugins/product_cls_launchers`` registers the launcher with Hydra. This module imports
neither torch nor Lightning, so that a sweep starts at once. With every launcher, the run itself
decides whether to skip, resume or start over (``product_cls/runs``).
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from product_cls.config.border import keys_for_arguments
from product_cls.config.checks import GROUPS, check_settings
from product_cls.config.compose import command_overrides
from product_cls.core.errors import UserError
from product_cls.launchers.base import (
    BASIC_SWEEPER,
    PLUGIN_MODULE,
    check_folders,
    entry_point,
    gpus_per_job,
    job_labels,
    job_return,
    quoted,
)
from product_cls.launchers.fork_server import fork_server
from product_cls.launchers.job import Job
from product_cls.launchers.pool import JobPool, JobQueue
from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus
from product_cls.launchers.table import Display
from product_cls.runs.folder import RunFolder

log = logging.getLogger(__name__)

# Overrides that configure the sweep itself are not passed on to its jobs.
SWEEP_OVERRIDES = re.compile(
    r"[+~]*hydra(\.(sweep|sweeper|launcher|mode|run)\b|/(sweeper|launcher)\b)"
)


@dataclass
class ProcessesConf:
    """Settings of ``hydra/launcher=processes``, under ``hydra.launcher``."""

    _target_: str = f"{PLUGIN_MODULE}.ProcessesLauncher"
    jobs: int | None = None  # concurrent jobs; null: as many as the GPUs allow, 1 without
    gpus: int | None = None  # GPUs of a job, if there are any; null: its trainer.devices
    jobs_per_gpu: int | None = None  # jobs that share a GPU, instead of `jobs`; null: 1
    threads: int | None = None  # CPU threads of a job; null: cores // jobs, or the user's
    grace: float = 30.0  # seconds from Ctrl-C to SIGTERM, then SIGKILL
    # Modules that a fork server imports once for all jobs; []: each job imports for itself.
    preload: list[str] = field(
        default_factory=lambda: ["product_cls.launchers.clusters", "product_cls.training.run"]
    )


class ProcessesLauncher(Launcher):
    """Runs the jobs of a sweep as processes of this machine.

    Hydra's sweeper creates it with the fields of ``ProcessesConf``.
    """

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
        """Run the jobs and print a table of their outcomes.

        Returns:
            One result per job; its ``return_value`` is the metric in the run's ``status.json``.

        Raises:
            SystemExit: 2 for a mistake found before any job starts, 128 + the signal's number for
                Ctrl-C (130), SIGTERM (143) or SIGHUP, 1 if a job failed.
        """
        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        try:
            jobs = self.compose(job_overrides, initial_job_idx)
            most_gpus = max(gpus_per_job(job.hydra_result.cfg) for job in jobs)
            gpus_of_slots = self.assign_slots(len(jobs), most_gpus)
        except UserError as error:
            # Hydra would print a traceback.
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        environments = [
            job_environment(os.environ, gpus, threads=self.threads, at_once=len(gpus_of_slots))
            for gpus in gpus_of_slots
        ]
        log.info(f"{len(jobs)} jobs, {len(environments)} at a time")
        # A single job gains nothing from a fork server. Jobs with env_set cannot use one: it would
        # import packages before the variables that they read are set.
        sets_variables = any(job.hydra_result.hydra_cfg.hydra.job.env_set for job in jobs)
        modules = self.preload if len(jobs) > 1 and not sets_variables else []
        with fork_server(modules, environments[0]) as server:
            signum = JobPool(environments, self.grace, server).run(JobQueue(jobs))
        Display(jobs).summary(stopped=signum is not None)
        if signum is not None:
            raise SystemExit(128 + signum)
        # The basic sweeper only reports failures, and the table has done so. Others, such as
        # Optuna's, may continue after failures (max_failure_rate), so they get each result.
        basic = self.config.hydra.sweeper.get("_target_") == BASIC_SWEEPER
        if basic and any(job.state == "failed" for job in jobs):
            raise SystemExit(1)
        return [job_return(job) for job in jobs]

    def compose(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Job]:
        """Compose all jobs before the first starts, so that a mistake in the last costs nothing.

        Args:
            job_overrides: overrides of each job.
            first: number of the first job.

        Raises:
            UserError: settings that no run can have, two jobs share a folder, or a folder's name is
                too long.
            HydraException: a config cannot be composed.
        """
        assert self.config is not None and self.hydra_context is not None
        hydra_overrides = [
            word
            for word in command_overrides(self.config.hydra, "hydra")
            if not SWEEP_OVERRIDES.match(word)
        ]
        program = entry_point()
        labels = job_labels(job_overrides)
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
            result = JobReturn(overrides=command_overrides(config.hydra, "task"))
            path = self.fill_result(config, result)
            if all(group in config for group in GROUPS):  # of this package, not of another program
                check_settings(config)
            command = [
                *program,
                *hydra_overrides,
                *overrides,
                f"hydra.run.dir={quoted(str(path))}",
                f"hydra.job.num={number}",
                f"hydra.job.id={number}",
                "hydra.mode=RUN",  # mode MULTIRUN in the config would start sweeps recursively
            ]
            jobs.append(Job(number, label, RunFolder(path), command, result))
        check_folders(jobs)
        return jobs

    def fill_result(self, config: DictConfig, result: JobReturn) -> Path:
        """Fill in the result that Hydra expects of a finished job, and return the job's folder."""
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

    def assign_slots(self, job_count: int, most_gpus: int) -> list[str | None]:
        """The GPUs of each slot, one slot per concurrent job; None without GPUs.

        Args:
            job_count: number of jobs of the sweep.
            most_gpus: the largest number of GPUs that a job trains on.

        Raises:
            UserError: a setting is out of range, or settings contradict each other.
        """
        for key, value, minimum in (
            ("jobs", self.jobs, 1),
            ("gpus", self.gpus, 1),
            ("jobs_per_gpu", self.jobs_per_gpu, 1),
            ("threads", self.threads, 1),
            ("grace", self.grace, 0),
        ):
            if value is not None and value < minimum:
                raise UserError(f"hydra.launcher.{key}={value}; allowed: {minimum} or more.")
        gpus = visible_gpus(os.environ)
        if self.jobs_per_gpu is not None and (self.jobs is not None or not gpus):
            raise UserError(
                f"hydra.launcher.jobs_per_gpu={self.jobs_per_gpu} "
                + ("and hydra.launcher.jobs contradict each other" if gpus else "without a GPU")
                + "; use only hydra.launcher.jobs to say how many jobs run at once."
            )
        key = "trainer.devices" if self.gpus is None else "hydra.launcher.gpus"
        with keys_for_arguments(gpus_per_job=key):
            slots = assign_gpus(gpus, self.jobs, self.gpus or most_gpus, self.jobs_per_gpu or 1)
        return slots[:job_count]
