"""Sharpness-aware minimisation: the gradient of the worst point nearby, for any optimiser."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from product_cls.core.errors import UserError

TINY = 1e-12  # keeps a gradient of 0 from dividing by 0


class SAM(Optimizer):
    """SAM (Foret et al. 2021, arXiv 2010.01412) and ASAM (Kwon et al. 2021, arXiv 2102.11600).

    A step takes two gradients of the same batch and so twice the time::

        loss(w).backward()          # g, at the weights w
        with sam.perturbed():       # the weights are w + e
            sam.zero_grad()
            loss(w).backward()
        sam.step()                  # the base optimiser's, from w, with the second gradient

    ``sam.step(closure)`` does all of it with a closure that computes loss and gradient.

    ``e = rho * g / |g|``; adaptive, ``e = rho * w^2 g / |w g|``. The norm is over all parameters
    together. In a run ``ProductModule.optimizer_step`` does this. Parameter groups, their learning
    rates and the state are the base optimiser's own, so schedulers and checkpoints need not know.

    Args:
        params: parameters or groups of them.
        base_optimizer: takes params and ``base_arguments``; a class, or one with arguments bound.
        rho: how far up, above 0; adaptive takes about 10 times as much.
        adaptive: measure the distance relative to the size of each weight.
        base_arguments: ``lr``, ``weight_decay`` and what else the base optimiser takes.

    Raises:
        UserError: rho of 0 or less.
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
            raise UserError(f"optimizer.rho={rho}; it must be above 0.")
        self.rho, self.adaptive = rho, adaptive
        self._climbed = False
        self.base_optimizer = base_optimizer(params, **base_arguments)
        super().__init__(self.base_optimizer.param_groups, self.base_optimizer.defaults)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Inside, the weights are those that ``rho`` and the present gradients lead up to; after,
        bit by bit those from before."""
        self._climbed = True
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.detach().clone() for p in moved]
        with torch.no_grad():
            for parameter, step in zip(moved, self._perturbation(moved), strict=True):
                parameter.add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(moved, before, strict=True):
                    parameter.copy_(weight)

    def _perturbation(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """One tensor a parameter, of its shape."""
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
            closure: computes loss and gradient and returns the loss; called twice, at the weights
                and, with gradients of 0 to begin with, where they lead up to. A closure that goes
                there by itself (``perturbed``) is called once. Dropout draws anew and batch norms
                count both calls, but for ``same_draws`` and ``statistics_kept``. None takes the
                gradients as they are: without ``perturbed`` before it, that is a step of the base
                optimiser alone.

        Returns:
            The closure's loss at the weights; None without one.
        """
        self._climbed = False
        loss = closure() if closure is not None else None
        if closure is not None and not self._climbed:
            with self.perturbed():
                self.zero_grad()
                closure()
        self.base_optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base optimiser's; between steps there is nothing else to keep."""
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base_optimizer.load_state_dict(state_dict)
        self._share()


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Afterwards random numbers come as they did inside, so that dropout drops the same again."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        yield


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms use the batch's statistics as ever, but do not add them to the running ones."""
    norms: list[Any] = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
