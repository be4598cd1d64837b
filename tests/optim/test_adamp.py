"""AdamP as we configure it (the `adamp` package) against AdamW and timm's implementation."""

from collections.abc import Callable

import pytest
import timm.optim
import torch
from adamp import AdamP

Loss = Callable[[torch.Tensor], torch.Tensor]
DEFAULTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}


def radial(w: torch.Tensor) -> torch.Tensor:
    """Its gradient is parallel to the weight, so there is nothing to project away."""
    return (w**2).sum()


def scale_invariant(w: torch.Tensor) -> torch.Tensor:
    """Its gradient is orthogonal to each row of the weight."""
    target = torch.tensor([[1.0, -2.0, 0.5, 0.3]], dtype=torch.float64)
    return ((torch.nn.functional.normalize(w, dim=1) * target).sum(1) ** 2).sum()


def trajectory(optimizer: type, loss: Loss, **arguments: float) -> torch.Tensor:
    """A weight [3, 4] in float64 after five steps."""
    w = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
    stepper = optimizer([w], **DEFAULTS, **arguments)
    for _ in range(5):
        stepper.zero_grad()
        loss(w).backward()
        stepper.step()
    return w.detach()


@pytest.mark.parametrize("loss", [radial, scale_invariant])
def test_package_agrees_with_timm(loss: Loss) -> None:
    arguments = {"weight_decay": 0.01, "delta": 0.1, "wd_ratio": 0.1}
    ours = trajectory(AdamP, loss, **arguments)
    theirs = trajectory(timm.optim.AdamP, loss, **arguments)
    assert torch.allclose(ours, theirs, atol=1e-12, rtol=0)


def test_equals_adamw_where_no_projection_fires() -> None:
    ours = trajectory(AdamP, radial, weight_decay=0.01)
    adamw = trajectory(torch.optim.AdamW, radial, weight_decay=0.01)
    assert torch.allclose(ours, adamw, atol=1e-12, rtol=0)


def test_projection_keeps_the_norm_of_scale_invariant_weights() -> None:
    start = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).norm(dim=1)
    growth = {
        kind: (trajectory(kind, scale_invariant, weight_decay=0.0).norm(dim=1) - start).abs().max()
        for kind in (AdamP, torch.optim.AdamW)
    }
    assert growth[AdamP] < growth[torch.optim.AdamW] / 10
