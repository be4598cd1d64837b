"""Divide GPUs and CPU threads among concurrent jobs."""

import itertools
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from product_cls.core.cpu_count import usable_cores
from product_cls.core.process_environment import RANK_VARIABLES, THREAD_VARIABLES


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that jobs may use, in the form that ``CUDA_VISIBLE_DEVICES`` takes.

    An inherited ``CUDA_VISIBLE_DEVICES`` (from a user or a cluster) is respected; it may hold
    numbers or UUIDs. Asking torch would take seconds for its import, and a process that has touched
    CUDA would hold GPU memory for the whole sweep.

    Args:
        environ: environment variables of the launcher.
    """
    inherited = environ.get("CUDA_VISIBLE_DEVICES")
    if inherited is not None:
        # Like CUDA, stop at the first name that is not a device: "-1" hides all.
        names = (name.strip() for name in inherited.split(","))
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
) -> list[str | None]:
    """GPUs of each concurrent job, as values of ``CUDA_VISIBLE_DEVICES``.

    ``["2", "5"]`` gives GPU 2 to one job and GPU 5 to another. If there are more jobs than GPUs,
    they share them evenly.

    Args:
        gpus: names from ``visible_gpus``.
        jobs: number of concurrent jobs; None: as many as the GPUs allow.
        gpus_per_job: at least 1.
        jobs_per_gpu: jobs that may share a GPU, at least 1.

    Returns:
        One entry per concurrent job; None leaves the variable as it is.

    Raises:
        ValueError: a job needs more GPUs than there are.
    """
    if not gpus:
        return [None] * (jobs or 1)
    if gpus_per_job > len(gpus):
        raise ValueError(
            f"gpus_per_job={gpus_per_job} exceeds the {len(gpus)} GPUs of this machine."
        )
    names = itertools.cycle(gpus)
    return [
        ",".join(itertools.islice(names, gpus_per_job))
        for _ in range(jobs or len(gpus) * jobs_per_gpu // gpus_per_job)
    ]


def job_environment(
    environ: Mapping[str, str], gpus: str | None, *, threads: int | None, at_once: int
) -> dict[str, str]:
    """Environment variables of a job.

    Args:
        environ: those of the launcher.
        gpus: ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
        threads: CPU threads of the job; None: an equal share of the cores, unless the user has set
            a number. For a job that runs alone, the libraries choose as in a single run, so that
            the order of its sums, and therefore its weights, are the same.
        at_once: number of concurrent jobs.
    """
    environment = {
        key: value
        for key, value in environ.items()
        if key not in RANK_VARIABLES and not key.startswith("TORCHELASTIC_")
    }
    environment["PYTHONUNBUFFERED"] = "1"  # the log of a killed job is complete
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    share = str(max(1, usable_cores() // at_once))
    for name in THREAD_VARIABLES:
        if threads is not None:
            environment[name] = str(threads)
        elif at_once > 1:
            environment.setdefault(name, share)
    return environment
