"""GPUs and threads of the jobs that run at once."""

import itertools
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError
from product_cls.core.process_environment import RANK_VARIABLES, THREAD_VARIABLES


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that jobs may use, as ``CUDA_VISIBLE_DEVICES`` takes them.

    A ``CUDA_VISIBLE_DEVICES`` that was inherited (from a user or a cluster) is honoured, with
    numbers or UUIDs. torch is not asked: it takes seconds to import, and a process that has touched
    CUDA keeps memory on the GPU for as long as the sweep lasts.
    """
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # CUDA, too, stops at the first name that is no device: "-1" hides all.
        names = (name.strip() for name in given.split(","))
        return list(itertools.takewhile(re.compile(r"\d+|(GPU|MIG)-\S+").fullmatch, names))
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
        count = sum(line.startswith("GPU ") for line in listing.splitlines())
    except FileNotFoundError:  # a slim container
        devices = Path("/proc/driver/nvidia/gpus")
        count = len(list(devices.iterdir())) if devices.is_dir() else 0
    except subprocess.TimeoutExpired:
        count = 0
    return [str(number) for number in range(count)]


def assign_gpus(
    gpus: Sequence[str],
    jobs: int | None,
    gpus_per_job: int,
    jobs_per_gpu: int = 1,
    *,
    key: str = "hydra.launcher.gpus, else trainer.devices",
) -> list[str | None]:
    """Which GPUs each of the jobs that run at once sees: ``["2", "5"]`` for GPUs 2 and 5.

    More jobs than GPUs share them evenly.

    Args:
        gpus: names from ``visible_gpus``.
        jobs: how many at once; None: as many as the GPUs suffice for.
        gpus_per_job: at least 1.
        jobs_per_gpu: that a GPU suffices for, at least 1.
        key: what the user sets ``gpus_per_job`` with.

    Raises:
        UserError: a job wants more GPUs than there are.
    """
    if not gpus:
        return [None] * (jobs or 1)
    if gpus_per_job > len(gpus):
        raise UserError(
            f"A job takes {gpus_per_job} GPUs ({key}), but only {len(gpus)} can be used."
        )
    names = itertools.cycle(gpus)
    return [
        ",".join(itertools.islice(names, gpus_per_job))
        for _ in range(jobs or len(gpus) * jobs_per_gpu // gpus_per_job)
    ]


def job_environment(
    environ: Mapping[str, str], gpus: str | None, *, threads: int | None, at_once: int
) -> dict[str, str]:
    """The environment of a job.

    Args:
        environ: the launcher's own.
        gpus: ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
        threads: CPU threads of the job; None: an equal share of the cores, where the user has not
            set a number. A job that runs alone is left to the libraries' own choice, as in a single
            run, which also keeps its sums, hence its weights, the same.
        at_once: how many jobs run at once.
    """
    result = {
        key: value
        for key, value in environ.items()
        if key not in RANK_VARIABLES and not key.startswith("TORCHELASTIC_")
    }
    result["PYTHONUNBUFFERED"] = "1"  # the last words of a killed job are in its log
    if gpus is not None:
        result["CUDA_VISIBLE_DEVICES"] = gpus
    share = str(max(1, usable_cores() // at_once))
    for name in THREAD_VARIABLES:
        if threads is not None:
            result[name] = str(threads)
        elif at_once > 1:
            result.setdefault(name, share)
    return result
