"""Settings of the cluster launchers, under ``hydra.launcher``.

Examples: docs/guides/clusters.md. The keys are those of Hydra's plugins for submitit and Ray. These
settings replace those of the plugins under the same names, with defaults that suit training.
"""

from dataclasses import dataclass, field
from typing import Any

from product_cls.launchers.base import PLUGIN_MODULE


@dataclass
class SubmititLocalConf:
    """``hydra/launcher=submitit_local``: like submitit_slurm, but all at once on this machine."""

    _target_: str = f"{PLUGIN_MODULE}.SubmititLocalLauncher"
    # Workers read their jobs and write their results here, by job number. Numbers repeat in later
    # sweeps, so each sweep has its own folder; otherwise an old result would be read as a new one.
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/${now:%Y-%m-%d_%H-%M-%S}/%j"
    timeout_min: int = 240  # time limit of a job, minutes
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    mem_gb: int | None = None
    nodes: int = 1
    name: str = "${hydra.job.name}"
    stderr_to_stdout: bool = False


@dataclass
class SubmititSlurmConf(SubmititLocalConf):
    """``hydra/launcher=submitit_slurm``: the sweep is a Slurm job array."""

    _target_: str = f"{PLUGIN_MODULE}.SlurmLauncher"
    cpus_per_task: int | None = 2  # also the number of threads
    # A job that reaches its time limit is requeued up to this often, and resumes.
    max_num_timeout: int = 10
    signal_delay_s: int = 60  # warning before the time limit, seconds
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
    array_parallelism: int = 256  # concurrent jobs
    setup: list[str] | None = None  # shell commands before a job: ["module load cuda"]
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # for sbatch: {nice: 100}


def _init() -> dict[str, Any]:
    # The plugin's default for the object store, 75 MiB, is less than the minimum of Ray 2.60, and
    # an error when joining a cluster; null leaves the size to Ray.
    return {"address": None, "object_store_memory": None, "include_dashboard": False}


def _remote() -> dict[str, Any]:
    # Ray hides all GPUs from a job that requests none. Jobs of a lost node start again and resume,
    # so they lose at most one epoch.
    return {"num_cpus": 1, "num_gpus": 0, "max_retries": 3}


@dataclass
class RaySettings:
    init: dict[str, Any] = field(default_factory=_init)  # arguments of ray.init
    remote: dict[str, Any] = field(default_factory=_remote)  # of ray.remote; num_cpus: also threads


@dataclass
class RayConf:
    """``hydra/launcher=ray``: each job of the sweep is a Ray task."""

    _target_: str = f"{PLUGIN_MODULE}.RayLauncher"
    ray: RaySettings = field(default_factory=RaySettings)
