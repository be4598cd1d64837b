"""Batch norms that take their statistics from other pictures than those of the training (AdaBN).

A batch norm normalises each channel by its mean and variance over the training pictures. At another
camera angle both differ, and all later layers see shifted channels. Statistics of unlabelled
pictures from that angle repair this (Li et al. 2016, arXiv 1603.04779; Schneider et al. 2020,
arXiv 2006.16971).
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a network that keep statistics, in its own order."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


def check_batch_norms(network: nn.Module, name: str) -> None:
    """Check that a network has statistics to adapt.

    Args:
        name: of the network, for the message.

    Raises:
        ValueError: it has no batch norms.
    """
    if not batch_norms(network):
        raise ValueError(
            f"adapt=batchnorm needs batch norms, and {name} has none; allowed: null, or another "
            "network (EfficientNet, ResNet, RepVGG, ...)."
        )


@torch.no_grad()
def adapted(network: Module, batches: Iterable[Tensor], share: float = 1.0) -> Module:
    """A copy of the network whose batch norms use the statistics of other pictures.

    In one pass over the pictures each batch is normalised by its own statistics. Those of all
    batches are averaged with equal weights, so batches should be large, shuffled and about equal
    in size. Everything but the batch norms works as in evaluation.

    Args:
        network: is not modified.
        batches: what ``network`` takes, float ``[B, 3, H, W]`` with B of 2 or more.
        share: of these pictures in the new statistics, in [0, 1]; the rest are the training's.
            Means and variances are mixed linearly.

    Returns:
        A copy in evaluation mode.

    Raises:
        ValueError: ``share`` is out of range, the network has no batch norms, or there are no
            batches.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}; allowed: 0 to 1.")
    check_batch_norms(network, "this network")
    changed = copy.deepcopy(network).eval()
    norms = batch_norms(changed)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch then averages all batches equally
        norm.train()
    count = 0
    for batch in batches:
        changed(batch)
        count += 1
    if not count:
        raise ValueError("batches is empty; batch norms need at least one batch.")
    for norm, old, momentum in zip(norms, batch_norms(network), momenta, strict=True):
        norm.momentum = momentum
        for name in ("running_mean", "running_var"):
            new, before = getattr(norm, name), getattr(old, name).to(getattr(norm, name))
            new.mul_(share).add_(before, alpha=1 - share)
        if norm.num_batches_tracked is not None and old.num_batches_tracked is not None:
            norm.num_batches_tracked.copy_(old.num_batches_tracked)
    return changed.eval()
