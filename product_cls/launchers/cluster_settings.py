"""Settings of the cluster launchers, under ``hydra.launcher``; docs/clusters.md shows them at work.

The keys are those of Hydra's plug-ins for submitit and Ray, whose settings of the same names these
replace, with defaults that suit training.
"""

from dataclasses import dataclass, field
from typing import Any

from product_cls.launchers.base import PLUGIN_MODULE


@dataclass
class SubmititLocalConf:
    """``hydra/launcher=submitit_local``: what submitit_slurm would do, here, all jobs at once."""

    _target_: str = f"{PLUGIN_MODULE}.SubmititLocalLauncher"
    # Where workers are given their jobs and leave what came of them, by the number of the job. A
    # folder a sweep: numbers come again, and an old result would be read as the new job's.
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/${now:%Y-%m-%d_%H-%M-%S}/%j"
    timeout_min: int = 240  # a job's time limit
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    mem_gb: int | None = None
    nodes: int = 1
    name: str = "${hydra.job.name}"
    stderr_to_stdout: bool = False


@dataclass
class SubmititSlurmConf(SubmititLocalConf):
    """``hydra/launcher=submitit_slurm``: a job of the sweep is one of a Slurm array."""

    _target_: str = f"{PLUGIN_MODULE}.SlurmLauncher"
    cpus_per_task: int | None = 2  # also the job's threads
    # At its limit a job is queued again, this often, and goes on from its last epoch.
    max_num_timeout: int = 10
    signal_delay_s: int = 60  # before the limit, when that happens
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    array_parallelism: int = 256  # jobs at once
    setup: list[str] | None = None  # shell commands before a job: ["module load cuda"]
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # of sbatch: {nice: 100}


def _init() -> dict[str, Any]:
    # The plug-in's default for the store, 75 MiB, is less than Ray 2.60 starts with, and an error
    # where a cluster is joined; null leaves it to Ray.
    return {"address": None, "object_store_memory": None, "include_dashboard": False}


def _remote() -> dict[str, Any]:
    # A job that asks for no GPU is shown none. A node that is lost costs what its jobs had done of
    # an epoch: they are started again and go on.
    return {"num_cpus": 1, "num_gpus": 0, "max_retries": 3}


@dataclass
class RaySettings:
    init: dict[str, Any] = field(default_factory=_init)  # of ray.init
    remote: dict[str, Any] = field(default_factory=_remote)  # of ray.remote; num_cpus: also threads


@dataclass
class RayConf:
    """``hydra/launcher=ray``: a job of the sweep is a task of Ray."""

    _target_: str = f"{PLUGIN_MODULE}.RayLauncher"
    ray: RaySettings = field(default_factory=RaySettings)
