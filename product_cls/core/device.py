"""Torch devices by name."""

import re

import torch

from product_cls.core.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU of CUDA where there is one), ``cpu``, ``cuda``,
    ``cuda:<n>``, and ``mps`` where there is that.

    Raises:
        UserError: another name, or no such device here.
    """
    gpu = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if gpu else "cpu")
    # torch knows a dozen more, on which nothing of ours runs, and takes cuda:128 for cuda:-128.
    names = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), "cuda"]
    found = re.fullmatch(r"cuda:(\d+)", name)
    if name not in names and found is None:
        raise UserError(f"device={name}; allowed: auto, {', '.join(names)}, cuda:<n>.")
    if name.startswith("cuda") and not gpu:
        raise UserError(f"device={name}: there is no GPU here; use device=cpu.")
    if found is not None and int(found[1]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"device={name}: there are GPUs up to cuda:{last} here.")
    return torch.device(name)
