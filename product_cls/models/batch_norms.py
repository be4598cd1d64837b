"""Batch norms that are adapted to other pictures than those of the training.

A batch norm normalises each channel by its mean and variance over the training pictures. At another
camera angle both differ, and all later layers see shifted channels. Statistics of unlabelled
pictures from that angle repair this (Li et al. 2016, arXiv 1603.04779; Schneider et al. 2020,
arXiv 2006.16971; AdaBN).

Their scales and shifts can learn, too: so that each picture gets a sure answer, and all pictures
together many different ones (information maximisation: Krause et al. 2010; Liang et al. 2020, arXiv
2002.08546). This moves borders between similar classes to where few pictures lie.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)

TINY = 1e-8  # lower bound of probabilities, whose logarithm is taken


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
            f"adapt= needs batch norms, and {name} has none; allowed: null, or another "
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


def informed(
    network: Module,
    batches: Callable[[int], Iterable[Tensor]],
    scores: Callable[[Any], Tensor],
    *,
    epochs: int = 3,
    rate: float = 3e-3,
) -> Module:
    """A copy of the network whose batch norms maximise the information in its answers.

    The loss is the mean entropy of the answers minus the entropy of their mean, over each batch. It
    assumes that the pictures show all classes, about equally often. In training, each batch is
    normalised by its own statistics, which the running ones follow.

    Args:
        network: adapted to the statistics of the pictures; not modified.
        batches: number of the epoch, from 0 -> shuffled batches of what ``network`` takes, float
            ``[B, 3, H, W]`` with B of 2 or more.
        scores: outputs of the network -> probabilities, ``[B, C]``.
        epochs: passes over the pictures, 1 or more.
        rate: learning rate (Adam).

    Returns:
        A copy in evaluation mode.

    Raises:
        ValueError: the network has no batch norms with a scale and a shift.
    """
    check_batch_norms(network, "this network")
    changed = copy.deepcopy(network).eval().requires_grad_(False)
    norms = [norm for norm in batch_norms(changed) if norm.affine]
    if not norms:
        raise ValueError("adapt=infomax needs batch norms with a scale and a shift.")
    learned = [part for norm in norms for part in (norm.weight, norm.bias)]
    for part in learned:
        part.requires_grad_(True)
    optimizer = torch.optim.Adam(learned, lr=rate)
    for epoch in range(epochs):
        for norm in norms:
            norm.train()
        for batch in batches(epoch):
            answers = scores(changed(batch)).clamp(min=TINY)
            unsure = -(answers * answers.log()).sum(dim=1).mean()
            mean = answers.mean(dim=0)
            loss = unsure + (mean * mean.log()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return changed.eval().requires_grad_(True)
