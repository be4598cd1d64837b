"""AdamP against the `adamp` package and AdamW."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from adamp import AdamP as PackageAdamP
from torch import Tensor
from torch.nn.functional import normalize

from product_cls.optim.adamp import AdamP

Loss = Callable[[Tensor], Tensor]
DEFAULTS = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


def pattern(shape: torch.Size) -> Tensor:
    return torch.cos(torch.arange(1.0, shape.numel() + 1, dtype=torch.float64)).reshape(shape)


def radial(w: Tensor) -> Tensor:
    """Its gradient is parallel to the weight, so there is nothing to project away."""
    return (w**2).sum()


def of_rows(w: Tensor) -> Tensor:
    """Its gradient is orthogonal to each row of the weight."""
    rows = len(w), -1
    return (
        (normalize(w.reshape(rows), dim=1) * pattern(w.shape).reshape(rows)).sum(1).square().sum()
    )


def of_the_whole(w: Tensor) -> Tensor:
    """Its gradient is orthogonal to the weight, but not to its rows."""
    return (normalize(w.flatten(), dim=0) * pattern(w.shape).flatten()).sum().square()


def weights(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    shapes = [(3, 4), (5,), (6, 2, 3, 3), (4, 1, 3, 3), (1, 7), (2, 1)]
    tensors = [torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape) for shape in shapes]
    return [torch.nn.Parameter(tensor.to(dtype) + 0.05) for tensor in tensors]


def descend(
    parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, loss: Loss, steps: int
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        sum(loss(p) for p in parameters if p.requires_grad).backward()  # type: ignore[union-attr]
        optimizer.step()


def trajectory(kind: Callable[..., Any], loss: Loss, dtype: torch.dtype, **changed: Any) -> Tensor:
    """All weights after 5 steps, concatenated."""
    parameters = weights(dtype)
    descend(parameters, kind(parameters, **(DEFAULTS | changed)), loss, 5)
    return torch.cat([p.detach().flatten() for p in parameters])


@pytest.mark.parametrize("loss", [radial, of_rows, of_the_whole])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"weight_decay": 0.0},
        {"nesterov": True},
        {"delta": 5.0, "wd_ratio": 0.5},  # nearly everything is projected
        {"delta": 0.0},  # nothing is projected
        {"eps": 1e-2, "betas": (0.5, 0.9)},
    ],
    ids=str,
)
def test_equals_the_package(loss: Loss, changed: dict[str, Any]) -> None:
    result = trajectory(AdamP, loss, torch.float64, **changed)
    expected = trajectory(PackageAdamP, loss, torch.float64, **changed)
    assert torch.allclose(result, expected, atol=1e-12, rtol=0)
    result = trajectory(AdamP, loss, torch.float32, **changed)
    expected = trajectory(PackageAdamP, loss, torch.float32, **changed)
    assert torch.allclose(result, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", [of_rows, of_the_whole])
def test_projection_fires_in_the_comparison(loss: Loss) -> None:
    adamw = trajectory(torch.optim.AdamW, loss, torch.float64)
    assert (trajectory(AdamP, loss, torch.float64) - adamw).abs().max() > 1e-4


def test_equals_adamw_where_no_projection_fires() -> None:
    result = trajectory(AdamP, radial, torch.float64)
    adamw = trajectory(torch.optim.AdamW, radial, torch.float64)
    assert torch.allclose(result, adamw, atol=1e-12, rtol=0)


def test_projection_keeps_the_norm_of_scale_invariant_weights() -> None:
    start = weights()[0].detach().norm(dim=1)
    growth = {}
    for kind in (AdamP, torch.optim.AdamW):
        weight = weights()[0]
        descend([weight], kind([weight], lr=1e-3, weight_decay=0.0), of_rows, 5)
        growth[kind] = (weight.detach().norm(dim=1) - start).abs().max()
    assert growth[AdamP] < growth[torch.optim.AdamW] / 10


def test_groups_and_weights_that_join_later() -> None:
    """Each group has its own rates, and a thawed backbone has its own step count."""
    ended = []
    for kind in (AdamP, PackageAdamP):
        parameters = weights()
        groups = [
            {"params": parameters[:2], "lr": 3e-2, "weight_decay": 0.0},
            {"params": parameters[2:], "delta": 1.0},
        ]
        optimizer = kind(groups, **DEFAULTS)
        for p in parameters[3:]:
            p.requires_grad_(False)
        descend(parameters, optimizer, of_rows, 2)
        for p in parameters[3:]:
            p.requires_grad_(True)
        descend(parameters, optimizer, of_rows, 3)
        assert [int(optimizer.state[p]["step"]) for p in parameters] == [5, 5, 5, 3, 3, 3]
        ended.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.allclose(*ended, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("first", "then"), [(PackageAdamP, AdamP), (AdamP, PackageAdamP)])
def test_checkpoints_work_in_both_directions(first: Any, then: Any) -> None:
    whole = weights()
    descend(whole, PackageAdamP(whole, **DEFAULTS), of_rows, 5)
    parameters = weights()
    before = first(parameters, **DEFAULTS)
    descend(parameters, before, of_rows, 2)
    after = then(parameters, **DEFAULTS)
    after.load_state_dict(before.state_dict())
    descend(parameters, after, of_rows, 3)
    for p, expected in zip(parameters, whole, strict=True):
        assert torch.allclose(p, expected, atol=1e-12, rtol=0)


def test_channels_last_weights_take_the_same_step() -> None:
    ended = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        kernel = weights()[2].detach().contiguous(memory_format=memory_format)
        weight = torch.nn.Parameter(kernel)
        descend([weight], AdamP([weight], **DEFAULTS), of_rows, 3)
        assert weight.is_contiguous(memory_format=memory_format)
        ended.append(weight.detach())
    assert torch.allclose(*ended, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"lr": -1.0}, ("lr=-1; allowed: above 0",)),
        ({"betas": (0.9, 1.0)}, ("betas=[0.9, 1.0]",)),
        ({"eps": 0.0}, ("eps=0.0",)),
        ({"weight_decay": -0.1}, ("weight_decay=-0.1",)),
    ],
)
def test_bad_values(refused: Any, arguments: dict[str, Any], parts: tuple[str, ...]) -> None:
    with refused(*parts):
        AdamP(weights(), **arguments)
