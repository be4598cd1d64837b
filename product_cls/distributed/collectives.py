"""Collectives across ranks; no-ops in a single process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def in_several_ranks() -> bool:
    """Whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(part: Any) -> list[Any]:
    """Gather an object from all ranks.

    Args:
        part: an array of any shape, a tensor on the CPU, or a list of them; shapes may differ
            between ranks.

    Returns:
        One part per rank, in the order of the ranks.
    """
    if not in_several_ranks():
        return [part]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def summed(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks.

    Args:
        values: of any shape and numeric dtype, both equal on all ranks; not changed.

    Returns:
        The sum, of the same shape and dtype.
    """
    if not in_several_ranks():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Set the running means and variances of batch norms to their mean over all ranks.

    Each rank has seen its own pictures. Without this, validation and checkpoints would use the
    statistics of the first rank alone (compare ``timm.utils.distribute_bn``).
    """
    if not in_several_ranks():
        return
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
