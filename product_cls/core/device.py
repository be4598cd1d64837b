"""Torch devices by name."""

import re

import torch

from product_cls.core.errors import UserError


def pick_device(name: str) -> torch.device:
    """Select a torch device by name.

    Args:
        name: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:<n>``,
            or ``mps`` where it is available.

    Raises:
        UserError: an unknown name, or this machine has no such device.
    """
    gpu = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if gpu else "cpu")
    # torch accepts a dozen other names, useless to this project, and reads cuda:128 as cuda:-128.
    names = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), "cuda"]
    numbered = re.fullmatch(r"cuda:(\d+)", name)
    if name not in names and numbered is None:
        raise UserError(f"device={name}; allowed: auto, {', '.join(names)}, cuda:<n>.")
    if name.startswith("cuda") and not gpu:
        raise UserError(f"device={name}: there is no GPU here; use device=cpu.")
    if numbered is not None and int(numbered[1]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"device={name}: the last GPU here is cuda:{last}.")
    return torch.device(name)
