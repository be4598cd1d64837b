"""What processes that learn together say to each other. Without others, nothing happens."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def together() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(part: Any) -> list[Any]:
    """What every process has given, in the order of their ranks: arrays, tensors on the CPU."""
    if not together():
        return [part]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def summed(values: Tensor) -> Tensor:
    """The sum over all processes of tensors of one shape."""
    if not together():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Batch norms' running means and variances become the mean over all processes.

    Each process has seen its own pictures. Without this, what is validated and kept would be the
    statistics of the first one's alone (as ``timm.utils.distribute_bn`` says).
    """
    if not together():
        return
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
