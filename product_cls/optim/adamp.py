"""AdamP, computed for many parameters at once without synchronising with the GPU."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamP(Optimizer):
    """AdamW that does not lengthen scale-invariant weights (Heo et al. 2021, arXiv 2006.08217).

    It computes the same as the `adamp` package and uses the same state names, so that checkpoints
    of the package resume here. The package decides on the CPU whether to project each weight, which
    synchronises with the GPU twice, and starts about 25 kernels per weight. Here a step is a few
    operations over all parameters, and the decision is a factor that stays on the device.

    A weight counts as scale-invariant if its gradient is almost orthogonal to it: row by row (one
    output channel each), or else as a whole. The step then loses its component along the weight.

    Args:
        params: parameters or groups of parameters, of any memory format.
        lr: learning rate, above 0.
        betas: decay of the running means of the gradient and of its square, each in [0, 1).
        eps: avoids division by 0, above 0.
        weight_decay: decoupled, as in AdamW; 0 or more.
        delta: a gradient is orthogonal if |cosine| < delta / sqrt(row length).
        wd_ratio: factor of the weight decay of projected weights.
        nesterov: use the mean of the gradient one step ahead.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
    ) -> None:
        if lr <= 0:
            raise ValueError(f"lr={lr:g}; allowed: above 0.")
        if weight_decay < 0:
            raise ValueError(f"weight_decay={weight_decay}; allowed: 0 or more.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={list(betas)}; allowed: two numbers, 0 to 1, without 1.")
        if eps <= 0:
            raise ValueError(f"eps={eps}; allowed: above 0.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            params, defaults | {"delta": delta, "wd_ratio": wd_ratio, "nesterov": nesterov}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with the current gradients.

        Args:
            closure: called first; computes gradients and returns the loss.

        Returns:
            The closure's loss; None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Also by step: a backbone that was frozen at first has taken fewer than the head.
            batches: dict[tuple[Any, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                key = (int(state["step"]), p.ndim > 1, p.device, p.dtype)
                batches.setdefault(key, []).append(p)
            for (step, weights, *_), parameters in batches.items():
                directions = self._directions(parameters, step, group)
                size = group["lr"] / (1 - group["betas"][0] ** step)
                if weights:
                    factors = _row_factors(parameters, directions, size, group)
                    torch._foreach_mul_(parameters, factors)
                elif group["weight_decay"] > 0:
                    torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, directions, alpha=-size)
        return loss

    def _directions(
        self, parameters: list[Tensor], step: int, group: dict[str, Any]
    ) -> list[Tensor]:
        """Adam's directions, each with the shape of its parameter; updates the state."""
        beta1, beta2 = group["betas"]
        grads = [p.grad for p in parameters if p.grad is not None]
        means = [self.state[p]["exp_avg"] for p in parameters]
        squares = [self.state[p]["exp_avg_sq"] for p in parameters]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, math.sqrt(1 - beta2**step))
        torch._foreach_add_(scales, group["eps"])
        ahead = torch._foreach_lerp(means, grads, 1 - beta1) if group["nesterov"] else means
        return list(torch._foreach_div(ahead, scales))


def _row_factors(
    weights: list[Tensor], directions: list[Tensor], size: float, group: dict[str, Any]
) -> list[Tensor]:
    """Factors for each row of each weight, to apply before ``size * directions`` is subtracted.

    They combine the weight decay and, for projected weights, the component that is removed from the
    step: for a row w and its direction u, ``u - w (w.u) / |w|^2`` leads from w to
    ``w (1 + size (w.u) / |w|^2) - size u``.

    Args:
        weights: W weights of two dimensions or more, with gradients.
        directions: one for each weight, with its shape.
        size: length of the step.
        group: the optimiser's settings.

    Returns:
        For each weight ``[rows, 1, ...]``.
    """
    grads = [p.grad for p in weights if p.grad is not None]
    eps = group["eps"]
    owner, columns, elements = _layout(
        tuple(p.shape for p in weights), weights[0].dtype, weights[0].device
    )
    slope = _row_sums(torch._foreach_mul(grads, weights))
    along = _row_sums(torch._foreach_mul(directions, weights))
    steepness, length = _row_norms(grads), _row_norms(weights)

    def total(rows: Tensor) -> Tensor:
        return torch.zeros_like(columns).index_add_(0, owner, rows)

    cosine = slope.abs() / (steepness.clamp_min(eps) * length.clamp_min(eps))
    steepest = torch.zeros_like(columns).scatter_reduce_(0, owner, cosine, "amax")
    by_row = steepest < group["delta"] / columns.sqrt()
    whole_length = total(length.square()).sqrt()
    whole_cosine = total(slope).abs() / (
        total(steepness.square()).sqrt().clamp_min(eps) * whole_length.clamp_min(eps)
    )
    as_whole = ~by_row & (whole_cosine < group["delta"] / elements.sqrt())

    removed_by_row = along / (length + eps).square()
    removed_as_whole = total(along) / (whole_length + eps).square()
    removed = torch.where(by_row[owner], removed_by_row, 0.0)
    removed += torch.where(as_whole, removed_as_whole, 0.0)[owner]
    decay = torch.full_like(columns, group["lr"] * group["weight_decay"])
    decay = torch.where(by_row | as_whole, decay * group["wd_ratio"], decay)
    factors = (1 - decay)[owner] + size * removed
    rows = [p.shape[0] for p in weights]
    return [
        factor.view(-1, *[1] * (p.ndim - 1))
        for factor, p in zip(factors.split(rows), weights, strict=True)
    ]


@lru_cache(maxsize=16)
def _layout(
    shapes: tuple[torch.Size, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Layout of the concatenated rows of all weights; cached, as copying to a GPU synchronises.

    Returns:
        The weight that each row belongs to, int64 ``[R]``; elements in a row of each weight,
        ``[W]``; elements of each weight, ``[W]``.
    """
    rows = torch.tensor([shape[0] for shape in shapes])
    elements = torch.tensor([shape.numel() for shape in shapes], dtype=dtype)
    owner = torch.repeat_interleave(torch.arange(len(shapes)), rows)
    return owner.to(device), (elements / rows).to(device), elements.to(device)


def _row_sums(weights: Iterable[Tensor]) -> Tensor:
    """Sums over all dimensions but the first, for the rows of all weights: ``[R]``."""
    return torch.cat([w.sum(dim=tuple(range(1, w.ndim))) for w in weights])


def _row_norms(weights: Iterable[Tensor]) -> Tensor:
    """Norms over all dimensions but the first, for the rows of all weights: ``[R]``."""
    return torch.cat([torch.linalg.vector_norm(w, dim=tuple(range(1, w.ndim))) for w in weights])
