"""Polynomial values are the reference implementation's (base .01, end 1e-4, power .9, T 10)."""

import itertools

import pytest
import torch

from product_cls.optim.schedules import (
    constant,
    cosine,
    cosine_lr,
    cosine_restarts,
    polynomial,
    polynomial_lr,
    restarts_lr,
)

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


def test_polynomial_after_a_warm_up() -> None:
    rates = [polynomial_lr(t, 13, 0.01, 1e-4, 0.9, warmup_steps=3) for t in range(15)]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4:] == pytest.approx(POLYNOMIAL, abs=1e-8)


@pytest.mark.parametrize(("period", "multiplier"), [(10, 1), (5, 2), (7, 3)])
def test_restarts_equal_those_of_torch(period: int, multiplier: int) -> None:
    total = {1: 40, 2: 35, 3: 28}[multiplier]  # whole cycles
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    torchs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, period, multiplier, eta_min=1e-4
    )
    for step in range(total):
        rate = restarts_lr(step, total, 0.01, 1e-4, period, multiplier)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()
    assert restarts_lr(total, total, 0.01, 1e-4, period, multiplier) == pytest.approx(1e-4)


def test_peaks_fall_by_the_decay() -> None:
    rates = [restarts_lr(t, 44, 1.0, 0.01, 10, decay=0.1, warmup_steps=4) for t in range(45)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [rates[t] for t in (4, 14, 24, 34)] == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert rates[9] == pytest.approx((1 + 0.01) / 2)


@pytest.mark.parametrize(
    ("total", "peaks"),
    [
        (30, [0, 10, 20]),
        (33, [0, 10, 20]),  # the last cycle is lengthened
        (36, [0, 10, 20, 30]),  # half of another one fits, so it is shortened
        (4, [0]),
    ],
)
def test_the_last_cycle_ends_with_the_run(total: int, peaks: list[int]) -> None:
    rates = [restarts_lr(t, total, 1.0, 0.0, 10) for t in range(total + 2)]
    assert [t for t, rate in enumerate(rates) if rate == 1.0] == peaks
    assert rates[total:] == pytest.approx([0.0, 0.0])
    falls = rates[peaks[-1] : total + 1]
    assert falls == sorted(falls, reverse=True)


@pytest.mark.parametrize("period", [0.3333, 1 / 3, 0.3334])
def test_rounded_thirds_make_three_cycles(period: float) -> None:
    rates = walk(cosine_restarts, 2000, total_steps=2000, period=period, end_lr=1e-6)
    assert sum(later > earlier for earlier, later in itertools.pairwise(rates)) < 10
    assert max(rates[-20:]) < 1e-4  # a restart would be near .01


def test_groups_keep_their_ratio() -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))]},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1e-7},  # below end_lr
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    scheduler = cosine(optimizer, 10, end_lr=1e-4, warmup=0.2)
    for _ in range(10):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second / first == pytest.approx(1e-5)
        optimizer.step()
        scheduler.step()
    assert first == pytest.approx(cosine_lr(9, 10, 0.01, 1e-4, 2))


def test_schedulers_reach_their_ends() -> None:
    assert walk(cosine, 10, total_steps=10, end_lr=1e-6)[-1] == pytest.approx(1e-6)
    assert walk(constant, 10, total_steps=10) == [0.01] * 10


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (cosine, {"end_lr": 0.1}, r"end_lr=0.1; allowed: 0 to lr=0.01"),
        (cosine, {"warmup": 1.5}, "warmup=1.5"),
        (polynomial, {"power": 0}, "power=0"),
        (polynomial, {"warmup": -0.1}, "warmup=-0.1"),
        (cosine_restarts, {"period": 0}, r"period=0; allowed: above 0 and up to 1"),
        (cosine_restarts, {"period": 0.5, "multiplier": 0.5}, "multiplier=0.5; allowed: 1 or more"),
        (cosine_restarts, {"period": 0.5, "decay": 0}, "decay=0; allowed: above 0 and up to 1"),
        (cosine_restarts, {"period": 0.5, "end_lr": 1}, "end_lr=1; allowed: 0 to"),
    ],
)
def test_values_out_of_range(make, arguments, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        walk(make, 1, total_steps=10, **arguments)
