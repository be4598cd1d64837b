"""Error rates, coverage and power, measured on synthetic ablations with a known truth.

Each table has 10 rows x 3 seeds x 50 products x 20 pictures. Products differ in difficulty, each
row suits some products better than others, a seed shifts all rows together and each row by itself,
and pictures are hard or easy for all runs alike. Unless a test sets effects, all rows have the same
expected accuracy.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from product_cls.report.statistics import LEVEL, compare_rows, holm, summarise_rows

TABLES = 250
NONE = (0.0,) * 10
PUBLISHED = (0, -0.0995, -0.0423, -0.0106, -0.0075, -0.0052, -0.0045, -0.0043, -0.0034, -0.0016)


def synthetic_tables(
    count: int,
    effects: Sequence[float] = NONE,
    *,
    seeds: int = 3,
    products: int = 50,
    pictures: int = 20,
    seed_sd: float = 0.007,
    shared: float = 0.5,
    suits: float = 0.02,
    noisier: Sequence[float] = (1.0,) * 10,
    alike: float = 0.7,
    base: float = 0.85,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``hits`` (``[R, S, C]``) and ``sizes`` (``[C]``) of tables.

    Args:
        effects: of each row, shares.
        seed_sd: standard deviation of a run's accuracy between seeds, a share.
        shared: part of that variance that is common to all rows.
        suits: standard deviation of a row's effect between products, a share.
        noisier: factors of each row's own seed noise.
        alike: correlation of a picture's difficulty between runs.
    """
    rng = np.random.default_rng(1)
    rows = len(effects)
    for _ in range(count):
        share = base + np.array(effects)[:, None, None] + rng.normal(0, suits, (rows, 1, products))
        share = share + rng.normal(0, 0.06, products).clip(-0.1, 0.1)
        own = np.sqrt(1 - shared) * rng.normal(size=(rows, seeds, 1))
        common = np.sqrt(shared) * rng.normal(size=(1, seeds, 1))
        share = share + seed_sd * (common + own * np.array(noisier)[:, None, None])
        hardness = rng.normal(size=(1, 1, products, pictures))
        luck = rng.normal(size=(rows, seeds, products, pictures))
        drawn = np.sqrt(alike) * hardness + np.sqrt(1 - alike) * luck
        right = drawn < ndtri(share.clip(1e-4, 1 - 1e-4))[..., None]
        yield right.sum(axis=3).astype(float), np.full(products, pictures)


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"shared": 0.0, "suits": 0.0},  # only independent noise
        {"suits": 0.05},  # rows suit products very differently
        {"seed_sd": 0.02, "shared": 0.0},  # seeds dominate
        {"noisier": (2.0,) + (1.0,) * 9, "shared": 0.2},  # a baseline that varies twice as much
        {
            "noisier": (1.0,) * 9 + (3.0,),
            "shared": 0.0,
            "seed_sd": 0.01,
        },  # a row that varies three times as much
        {"seeds": 2, "shared": 0.0},
        {"products": 24, "pictures": 72},
    ],
    ids=lambda setting: ",".join(setting) or "typical",
)
def test_no_effect_is_found_if_there_is_none(setting: dict[str, Any]) -> None:
    """Errors are at most nominal: family-wise with Holm, and for each row without correction."""
    any_row, each_row = 0, []
    for hits, sizes in synthetic_tables(TABLES, **setting):
        p = compare_rows(hits, sizes, 0, draws=400, intervals=False).p[1:]
        any_row += bool((holm(p) < LEVEL).any())
        each_row.append((p < LEVEL).mean())
    assert any_row / TABLES <= LEVEL
    assert np.mean(each_row) <= LEVEL


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_a_row_noisier_than_the_others_is_not_found_more_often(factor: float) -> None:
    """Its own p-value, before Holm: with the pool's degrees of freedom, 9 % of them are below .05.

    The bound leaves room for chance: 500 tables.
    """
    setting: dict[str, Any] = {"noisier": (1.0,) * 9 + (factor,), "shared": 0.0, "seed_sd": 0.01}
    p = [
        compare_rows(hits, sizes, 0, draws=400, intervals=False).p[-1]
        for hits, sizes in synthetic_tables(2 * TABLES, **setting)
    ]
    assert np.mean(np.array(p) < LEVEL) <= 0.06


def test_a_plain_bootstrap_of_three_seeds_is_too_liberal() -> None:
    """The errors that the method prevents do occur in these tables."""
    wrong = 0
    for hits, sizes in synthetic_tables(TABLES, shared=0.0, suits=0.0):
        paired = (hits - hits[0])[1:].sum(axis=2) / sizes.sum()
        error = paired.std(axis=1, ddof=0) / np.sqrt(3)  # the standard error of resampled means
        wrong += bool((holm(2 * ndtr(-abs(paired.mean(axis=1)) / error)) < LEVEL).any())
    assert wrong / TABLES > 4 * LEVEL


def test_intervals_contain_the_truth_and_large_effects_are_found() -> None:
    covered, detected = [], []
    for hits, sizes in synthetic_tables(120, PUBLISHED, pictures=72):
        result = compare_rows(hits, sizes, 0, draws=400)
        truth = np.array(PUBLISHED)[1:]
        covered.append((result.low[1:] <= truth) & (truth <= result.high[1:]))
        detected.append(holm(result.p[1:]) < LEVEL)
    assert np.mean(covered) >= 0.95
    power = np.mean(detected, axis=0)
    assert power[0] >= 0.95  # mixup and cutmix, -10 points
    assert power[1] >= 0.7  # cutmix, -4.2 points


def test_intervals_of_rows_contain_the_mean_over_seeds() -> None:
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.5):
        covered = []
        for _ in range(400):
            common = np.sqrt(shared) * rng.normal(size=(1, 3))
            noise = common + np.sqrt(1 - shared) * rng.normal(size=(10, 3))
            rows = summarise_rows(0.8 + 0.007 * noise)
            covered.append((rows.low <= 0.8) & (rows.high >= 0.8))
        assert np.mean(covered) >= 0.94
