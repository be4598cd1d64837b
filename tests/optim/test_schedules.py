"""Polynomial values are the reference implementation's (base .01, end 1e-4, power .9, T 10)."""

import pytest
import torch

from product_cls.errors import UserError
from product_cls.optim.groups import parameter_groups
from product_cls.optim.schedules import constant, cosine, cosine_lr, polynomial, polynomial_lr

POLYNOMIAL = [
    0.00910437, 0.00819872, 0.00728164, 0.00635131, 0.00540528,
    0.00443999, 0.00345, 0.00242575, 0.00134634, 0.0001, 0.0001,
]  # fmt: skip


def walk(make, steps: int, **arguments: float) -> list[float]:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = make(optimizer, **arguments)
    rates = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_polynomial_values() -> None:
    got = [polynomial_lr(t, 10, 0.01, 1e-4, 0.9) for t in range(1, 12)]
    assert got == pytest.approx(POLYNOMIAL, abs=1e-8)
    stepped = walk(polynomial, 11, total_steps=10, end_lr=1e-4, power=0.9)
    assert stepped == pytest.approx(POLYNOMIAL, abs=1e-8)


def test_cosine_goes_from_base_to_end() -> None:
    assert cosine_lr(0, 100, 1e-3, 1e-6) == 1e-3
    assert cosine_lr(50, 100, 1e-3, 1e-6) == pytest.approx((1e-3 + 1e-6) / 2)
    assert cosine_lr(100, 100, 1e-3, 1e-6) == pytest.approx(1e-6)
    assert cosine_lr(150, 100, 1e-3, 1e-6) == pytest.approx(1e-6)


def test_warm_up_rises_then_falls() -> None:
    rates = [cosine_lr(t, 100, 1.0, 0.0, warmup_steps=10) for t in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(range(101), key=rates.__getitem__) == 10
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_schedulers_reach_their_ends() -> None:
    assert walk(cosine, 10, total_steps=10, end_lr=1e-6)[-1] == pytest.approx(1e-6)
    assert walk(constant, 10, total_steps=10) == [0.01] * 10


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (cosine, {"end_lr": 0.1}, r"end_lr=0.1; allowed: 0 to optimizer.lr=0.01"),
        (cosine, {"warmup": 1.5}, "warmup=1.5"),
        (polynomial, {"power": 0}, "power=0"),
    ],
)
def test_values_out_of_range(make, arguments, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=words):
        walk(make, 1, total_steps=10, **arguments)


def test_norms_and_biases_are_not_decayed() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    module[1].weight.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.1)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[3].weight)}
    assert {id(p) for p in others["params"]} == {
        id(module[0].bias), id(module[1].bias), id(module[3].bias)
    }  # fmt: skip
