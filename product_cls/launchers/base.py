"""Functions that all launchers and the search share."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

import product_cls
from product_cls.core.cli import CONSOLE, checkout_script
from product_cls.core.errors import UserError
from product_cls.launchers.job import Job

# Where Hydra finds the launchers: see hydra_plugins/product_cls_launchers/__init__.py.
PLUGIN_MODULE = "hydra_plugins.product_cls_launchers"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def gpus_per_job(config: DictConfig) -> int:
    """GPUs that a job trains on, if the machine has any; 1 if its config names no number."""
    devices = OmegaConf.select(config, "trainer.devices")
    on_cpu = OmegaConf.select(config, "trainer.accelerator") == "cpu"
    return devices if isinstance(devices, int) and devices > 0 and not on_cpu else 1


def train_command() -> list[str]:
    """The command that trains one run, without overrides, from a checkout or when installed."""
    script = checkout_script()
    program = [str(script)] if script else ["-m", product_cls.__name__, "train"]
    return [sys.executable, *program]


def entry_point() -> list[str]:
    """The command that started this program, with the flags that select its config, without
    overrides.

    Raises:
        UserError: the command cannot be repeated (``python -c``, a notebook).
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else spec.name.removesuffix(".__main__")
    if module == product_cls.__name__ or Path(sys.argv[0]).name.split()[:1] == [CONSOLE]:
        program = ["-m", product_cls.__name__, "train"]
    elif spec is not None and spec.name != "__main__":
        program = ["-m", module]
    elif Path(sys.argv[0]).exists():
        program = [sys.argv[0]]
    else:
        raise UserError(
            f"hydra/launcher=processes starts the program again for each job, and '{sys.argv[0]}' "
            "is not a file; use hydra/launcher=basic here."
        )
    flags = get_args_parser().parse_args(sys.argv[1:])
    return [
        *(sys.executable, *program),
        *(
            f"--{flag.replace('_', '-')}={value}"
            for flag in ("config_path", "config_name", "config_dir")
            if (value := getattr(flags, flag)) is not None
        ),
    ]


def quoted(text: str) -> str:
    """A value in Hydra's override grammar, quoted so that ``=``, ``,`` and ``[`` are literal."""
    return QuotedString(text, Quote.single).with_quotes()


def job_labels(job_overrides: Iterable[Sequence[str]]) -> list[str]:
    """For each job, the overrides that not all jobs share; for a single job, all overrides."""
    jobs = [list(overrides) for overrides in job_overrides]
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(word for word in overrides if word not in shared) for overrides in jobs]


def check_folders(jobs: Sequence[Job]) -> None:
    """Check that each job has its own folder.

    Raises:
        UserError: two jobs share a folder, or a folder's name is too long.
    """
    owners: dict[str, Job] = {}
    for job in jobs:
        path = job.folder.path
        owner = owners.setdefault(os.path.realpath(path), job)
        if owner is not job:
            raise UserError(
                f"Jobs {owner.number} ({owner.label}) and {job.number} ({job.label}) have the same "
                f"folder {path}; make hydra.sweep.subdir depend on the values that differ, or "
                "remove one of the jobs."
            )
        if any(len(os.fsencode(part)) > 255 for part in path.parts):
            raise UserError(
                f"Job {job.number}: a name in {path} is longer than the 255 bytes that file "
                "systems allow; set hydra.sweep.subdir, or put these values into a config file."
            )


def job_return(job: Job) -> JobReturn:
    """The result that Hydra's sweepers read for a job that has ended."""
    if job.state == "failed":
        job.hydra_result.status = JobStatus.FAILED
        job.hydra_result.return_value = CompactHydraException(
            f"Job {job.number} ({job.label}) failed: {job.error} (see {job.folder.console_file})"
        )
    else:
        job.hydra_result.status = JobStatus.COMPLETED
        job.hydra_result.return_value = job.folder.status().get("value")
    return job.hydra_result
