"""AdamP for many parameters at once, without waiting for the GPU."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from product_cls.core.errors import UserError


class AdamP(Optimizer):
    """AdamW that does not lengthen scale-invariant weights (Heo et al. 2021, arXiv 2006.08217).

    Equals the `adamp` package, state names included, so that its checkpoints resume here. The
    package asks of each weight whether to project, which halts the GPU twice a weight, and starts
    some 25 kernels for it; here a step is a few operations over all parameters, and whether to
    project is a factor that stays on the device.

    A weight counts as scale-invariant where its gradient is all but orthogonal to it: row by row
    (an output channel each), or, failing that, as a whole. Then the part of the step along the
    weight is taken out.

    Args:
        params: parameters or groups of them; of any memory format.
        lr: learning rate, above 0.
        betas: decay of the means of the gradient and of its square, each in [0, 1).
        eps: keeps divisions from 0, above 0.
        weight_decay: decoupled, as in AdamW; 0 or more.
        delta: a gradient is orthogonal where |cosine| < delta / sqrt(row length).
        wd_ratio: of the weight decay, what projected weights get.
        nesterov: step along the mean as it would be a step ahead.

    Raises:
        UserError: a value out of its range.
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
            raise UserError(f"optimizer.lr={lr:g}; it must be above 0.")
        if weight_decay < 0:
            raise UserError(f"optimizer.weight_decay={weight_decay}; allowed: 0 or more.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"optimizer.betas={list(betas)}; allowed: two of 0 to 1, without 1.")
        if eps <= 0:
            raise UserError(f"optimizer.eps={eps}; it must be above 0.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            params, defaults | {"delta": delta, "wd_ratio": wd_ratio, "nesterov": nesterov}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with the gradients as they are.

        Args:
            closure: called first; leaves gradients behind and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # A backbone that was frozen for a while has taken fewer steps than its head.
            alike: dict[tuple[Any, ...], list[Tensor]] = {}
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
                alike.setdefault(key, []).append(p)
            for (step, weights, *_), parameters in alike.items():
                moves = self._directions(parameters, step, group)
                size = group["lr"] / (1 - group["betas"][0] ** step)
                if weights:
                    factors = _kept(parameters, moves, size, group)
                    torch._foreach_mul_(parameters, factors)
                elif group["weight_decay"] > 0:
                    torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, moves, alpha=-size)
        return loss

    def _directions(
        self, parameters: list[Tensor], step: int, group: dict[str, Any]
    ) -> list[Tensor]:
        """Adam's directions, of each parameter's shape; updates the means."""
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


def _kept(
    weights: list[Tensor], moves: list[Tensor], size: float, group: dict[str, Any]
) -> list[Tensor]:
    """What to multiply each row of each weight by, before ``size * moves`` is taken off.

    That is the weight decay and, where the projection fires, what it takes out of the step: for a
    row w and its direction u, ``u - w (w.u) / |w|^2`` leads from w to
    ``w (1 + size (w.u) / |w|^2) - size u``.

    Args:
        weights: W of two dimensions or more, with gradients.
        moves: their directions.
        size: of the step.
        group: the optimiser's settings.

    Returns:
        ``[rows, 1, ...]`` for each weight.
    """
    grads = [p.grad for p in weights if p.grad is not None]
    eps = group["eps"]
    owner, columns, elements = _layout(
        tuple(p.shape for p in weights), weights[0].dtype, weights[0].device
    )
    slope = _row_sums(torch._foreach_mul(grads, weights))
    along = _row_sums(torch._foreach_mul(moves, weights))
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

    taken_by_row = along / (length + eps).square()
    taken_as_whole = total(along) / (whole_length + eps).square()
    taken = torch.where(by_row[owner], taken_by_row, 0.0)
    taken += torch.where(as_whole, taken_as_whole, 0.0)[owner]
    decay = torch.full_like(columns, group["lr"] * group["weight_decay"])
    decay = torch.where(by_row | as_whole, decay * group["wd_ratio"], decay)
    factors = (1 - decay)[owner] + size * taken
    rows = [p.shape[0] for p in weights]
    return [
        factor.view(-1, *[1] * (p.ndim - 1))
        for factor, p in zip(factors.split(rows), weights, strict=True)
    ]


@lru_cache(maxsize=16)
def _layout(
    shapes: tuple[torch.Size, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of all weights in a line: whose each row is, ``[R]``; numbers in a row and in the whole
    of each weight, ``[W]``. Kept, since bringing them to a GPU would wait for it at every step."""
    rows = torch.tensor([shape[0] for shape in shapes])
    elements = torch.tensor([shape.numel() for shape in shapes], dtype=dtype)
    owner = torch.repeat_interleave(torch.arange(len(shapes)), rows)
    return owner.to(device), (elements / rows).to(device), elements.to(device)


def _row_sums(weights: Iterable[Tensor]) -> Tensor:
    """Sums over all dimensions but the first, of all weights in a line: ``[R]``."""
    return torch.cat([w.sum(dim=tuple(range(1, w.ndim))) for w in weights])


def _row_norms(weights: Iterable[Tensor]) -> Tensor:
    """Lengths over all dimensions but the first, of all weights in a line: ``[R]``."""
    return torch.cat([torch.linalg.vector_norm(w, dim=tuple(range(1, w.ndim))) for w in weights])
