"""What all launchers share."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from product_cls.core.errors import UserError
from product_cls.launchers.job import Job

# Hydra instantiates only launchers of its plug-ins' namespace, and looks them up by name.
PLUGIN_MODULE = "hydra_plugins.product_cls"


BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def devices(config: DictConfig) -> int:
    """GPUs that a job trains on where there are some; 1 where its config does not tell."""
    given = OmegaConf.select(config, "trainer.devices")
    on_cpu = OmegaConf.select(config, "trainer.accelerator") == "cpu"
    return given if isinstance(given, int) and given > 0 and not on_cpu else 1


def entry_point() -> list[str]:
    """This program as it was started, with the flags that choose its config, without overrides.

    Raises:
        UserError: it was started in a way that cannot be repeated (``python -c``, a notebook).
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        program = ["-m", spec.name.removesuffix(".__main__")]
    elif Path(sys.argv[0]).exists():
        program = [sys.argv[0]]
    else:
        raise UserError(
            f"hydra/launcher=processes starts the program again for each job, and '{sys.argv[0]}' "
            "is not a file; use hydra/launcher=basic here."
        )
    given = get_args_parser().parse_args(sys.argv[1:])
    flags = (("--config-path", given.config_path), ("--config-name", given.config_name))
    chosen = [f"{flag}={value}" for flag, value in flags if value is not None]
    if given.config_dir is not None:
        chosen.append(f"--config-dir={given.config_dir}")
    return [sys.executable, *program, *chosen]


def quoted(text: str) -> str:
    """A value in Hydra's override grammar, where ``=``, ``,`` and ``[`` stand for themselves."""
    return QuotedString(text, Quote.single).with_quotes()


def differing(job_overrides: Iterable[Sequence[str]]) -> list[str]:
    """For each job the overrides that not all jobs share, as typed; all of them for a lone job."""
    jobs = [list(overrides) for overrides in job_overrides]
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(line for line in overrides if line not in shared) for overrides in jobs]


def check_folders(jobs: Sequence[Job]) -> None:
    """Refuse what would let one job overwrite another, or could not be created.

    Raises:
        UserError: two jobs share a folder, or a folder's name is too long.
    """
    taken: dict[str, Job] = {}
    for job in jobs:
        path = job.folder.path
        other = taken.setdefault(os.path.realpath(path), job)
        if other is not job:
            raise UserError(
                f"Jobs {other.number} ({other.label}) and {job.number} ({job.label}) have the same "
                f"folder {path}; name what differs in hydra.sweep.subdir, or remove one of them."
            )
        if any(len(os.fsencode(part)) > 255 for part in path.parts):
            raise UserError(
                f"Job {job.number}: a name in {path} is longer than the 255 bytes that file "
                "systems allow; set hydra.sweep.subdir, or put these values into a config file."
            )


def job_return(job: Job) -> JobReturn:
    """What Hydra's sweepers read of a job that has ended."""
    if job.state == "failed":
        job.result.status = JobStatus.FAILED
        job.result.return_value = CompactHydraException(
            f"Job {job.number} ({job.label}) failed: {job.error} (see {job.folder.console_file})"
        )
    else:
        job.result.status = JobStatus.COMPLETED
        job.result.return_value = job.folder.status().get("value")
    return job.result


def register_launchers(*launchers: type[Launcher]) -> None:
    """Make launchers known to Hydra as ``hydra_plugins.product_cls.NAME``."""
    plugins = Plugins.instance()  # first: it looks for installed plug-ins
    for launcher in launchers:
        module = launcher.__module__
        launcher.__module__ = PLUGIN_MODULE
        plugins.register(launcher)
        # Workers of clusters are sent Hydra's list of plug-ins, and import the classes from here.
        launcher.__module__ = module
