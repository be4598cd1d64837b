"""Sharpness-aware minimisation for any optimiser, by the gradient at the worst point nearby."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

TINY = 1e-12  # avoids division by 0 for a gradient of 0


class SAM(Optimizer):
    """SAM (Foret et al. 2021, arXiv 2010.01412) and ASAM (Kwon et al. 2021, arXiv 2102.11600).

    A step takes two gradients of the same batch, so it takes twice the time::

        loss(w).backward()          # g, at the weights w
        with sam.perturbed():       # the weights are w + e
            sam.zero_grad()
            loss(w).backward()
        sam.step()                  # the base optimiser's, from w, with the second gradient

    ``sam.step(closure)`` does all of this with a closure that computes loss and gradient.

    ``e = rho * g / |g|``; adaptive, ``e = rho * w^2 g / |w g|``. The norm is over all parameters
    together. In a run, ``ProductModule.optimizer_step`` takes the steps. Parameter groups, learning
    rates and state are those of the base optimiser, so that schedulers and checkpoints work
    unchanged.

    Args:
        params: parameters or groups of parameters.
        base_optimizer: called with params and ``base_arguments``: an optimiser class, or a partial.
        rho: norm of the perturbation e, above 0; adaptive takes about 10 times as much.
        adaptive: measure the perturbation relative to the size of each weight.
        base_arguments: arguments of the base optimiser (``lr``, ``weight_decay``, ...).

    Raises:
        ValueError: rho of 0 or less.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        **base_arguments: Any,
    ) -> None:
        if rho <= 0:
            raise ValueError(f"rho={rho}; allowed: above 0.")
        self.rho, self.adaptive = rho, adaptive
        self._perturbed = False
        self.base_optimizer = base_optimizer(params, **base_arguments)
        super().__init__(self.base_optimizer.param_groups, self.base_optimizer.defaults)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Perturb the weights uphill along the current gradients inside the block.

        Afterwards, the weights are restored bit for bit.
        """
        self._perturbed = True
        parameters = [
            p for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        originals = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for parameter, step in zip(parameters, self._perturbation(parameters), strict=True):
                parameter.add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(parameters, originals, strict=True):
                    parameter.copy_(weight)

    def _perturbation(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """The perturbation e: one tensor of the same shape for each parameter."""
        steps = [p.grad for p in parameters if p.grad is not None]
        if not self.adaptive:
            length = get_total_norm(steps)
        else:
            sizes = [p.abs() for p in parameters]
            steps = [size * step for size, step in zip(sizes, steps, strict=True)]
            length = get_total_norm(steps)
            steps = [size * step for size, step in zip(sizes, steps, strict=True)]
        return [self.rho / (length + TINY) * step for step in steps]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The base optimiser's step.

        Args:
            closure: computes loss and gradient and returns the loss. It is called twice: at the
                weights, and at the perturbed weights with gradients reset to 0. A closure that
                calls ``perturbed`` itself is called once. Without ``same_draws`` and
                ``frozen_statistics``, dropout draws different masks in the two calls and batch
                norms count both. None uses the current gradients; unless ``perturbed`` came before,
                that is a plain step of the base optimiser.

        Returns:
            The closure's loss at the unperturbed weights; None without a closure.
        """
        self._perturbed = False
        loss = closure() if closure is not None else None
        if closure is not None and not self._perturbed:
            with self.perturbed():
                self.zero_grad()
                closure()
        self.base_optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base optimiser's state; SAM itself has none between steps."""
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base_optimizer.load_state_dict(state_dict)
        self._share()


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Restore the random state after the block, so that dropout repeats the masks drawn inside."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        yield


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms use the batch's statistics inside the block without updating their own."""
    norms: list[Any] = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
