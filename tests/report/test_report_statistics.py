"""The statistics against hand-computed numbers, SciPy and simple synthetic tables."""

import numpy as np
import pytest
from scipy import stats

from product_cls.report.statistics import (
    compare_rows,
    count_hits,
    holm,
    seed_variance,
    summarise_rows,
)

NAN = float("nan")


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, then made monotone.
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1, 1])


def test_holm_counts_comparisons_that_are_still_to_come() -> None:
    adjusted = holm(np.array([0.01, NAN, NAN, 0.02]))
    assert adjusted[[0, 3]] == pytest.approx([0.04, 0.06])
    assert np.isnan(adjusted[[1, 2]]).all()


def test_hits_by_product() -> None:
    correct = np.array([[1.0, 0, 1, 1, 0], [NAN] * 5])
    hits, sizes = count_hits(correct, np.array([1, 0, 1, 1, 0]))
    assert hits[0].tolist() == [0, 3] and sizes.tolist() == [2, 3]
    assert np.isnan(hits[1]).all()


def test_seed_variance_is_pooled_but_at_least_the_rows_own() -> None:
    values = np.array([[1.0, 2, 3], [0, 0, 0], [0, 4, 8], [5, NAN, NAN]])
    variance, freedom = seed_variance(values)
    pooled = (2 * 1 + 2 * 0 + 2 * 16) / 6
    assert variance == pytest.approx([pooled, pooled, 16, pooled])
    of_pool = 6 * 4 / (3 + 3)
    share = (pooled / 16) ** 2
    assert freedom == pytest.approx([of_pool, of_pool, 1 / (share / 4 + (1 - share) / 2), of_pool])
    # With a single row there is nothing to pool: the usual n - 1.
    variance, freedom = seed_variance(np.array([[1.0, 2, 3]]))
    assert (variance[0], freedom[0]) == (1, 2)
    # Far above the pool, a row has the degrees of freedom of its own seeds.
    noisy = np.concatenate([np.tile([1.0, 2, 3], (30, 1)), [[0, 1000, 2000]]])
    assert seed_variance(noisy)[1][-1] == pytest.approx(2, abs=0.01)


def test_degrees_of_freedom_are_those_of_differences_to_one_baseline() -> None:
    """Satterthwaite: twice the squared mean of the pooled variance, divided by its variance."""
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(20_000, 10, 3))
    paired = runs[:, 1:] - runs[:, :1]
    pooled = paired.var(axis=2, ddof=1).mean(axis=1)
    assert 2 * pooled.mean() ** 2 / pooled.var() == pytest.approx(
        seed_variance(paired[0])[1].max(), rel=0.05
    )


def test_row_summary_of_a_single_row_is_the_textbook_interval() -> None:
    values = np.array([0.90, 0.92, 0.91])
    rows = summarise_rows(values[None])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (rows.low[0], rows.high[0]) == pytest.approx(expected)
    assert rows.sd[0] == pytest.approx(values.std(ddof=1))


def table(differences: np.ndarray, products: int = 20, size: int = 50) -> np.ndarray:
    """Hits of a baseline at .5 and a row that differs by ``differences[seed, product]``."""
    base = np.full((len(differences), products), size / 2)
    return np.stack([base, base + size * differences])


def test_difference_from_seeds_alone_is_the_paired_t_test() -> None:
    moved = np.array([0.02, 0.05, 0.03])
    result = compare_rows(table(np.repeat(moved[:, None], 20, 1)), np.full(20, 50), 0)
    expected = stats.ttest_1samp(moved, 0)
    assert result.p[1] == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval()
    assert (result.low[1], result.high[1]) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert result.estimate.tolist() == [0, pytest.approx(moved.mean())]
    assert np.isnan(result.p[0])


def test_difference_from_products_alone_is_the_bootstrap_over_products() -> None:
    by_product = np.random.default_rng(0).normal(0.03, 0.05, 40)
    result = compare_rows(
        table(np.repeat(by_product[None], 3, 0), products=40), np.full(40, 50), 0, draws=20_000
    )
    expected = stats.t.interval(0.95, 39, by_product.mean(), stats.sem(by_product))
    assert (result.low[1], result.high[1]) == pytest.approx(expected, abs=0.002)
    exact = stats.ttest_1samp(by_product, 0).pvalue
    # Conservative in the far tails, which resamples do not reach.
    assert exact < result.p[1] < 0.005


def test_noise_within_products_is_not_counted_twice() -> None:
    """With independent noise everywhere, intervals are as wide as those of a t-test over seeds."""
    rng = np.random.default_rng(0)
    widths, seeds_alone = [], []
    for _ in range(40):
        noise = rng.normal(0, 0.1, (3, 200))
        result = compare_rows(table(noise, products=200), np.full(200, 50), 0, draws=300)
        widths.append(result.high[1] - result.low[1])
        low, high = stats.t.interval(0.95, 2, 0, stats.sem(noise.mean(axis=1)))
        seeds_alone.append(high - low)
    assert np.mean(widths) == pytest.approx(np.mean(seeds_alone), rel=0.1)


def test_pictures_of_one_product_are_not_independent() -> None:
    """If rows differ in whole products, intervals by product are far wider than by picture."""
    rng = np.random.default_rng(3)
    products = np.repeat(np.arange(30), 40)
    correct = np.repeat((rng.random((2, 1, 30)) < 0.5).astype(float)[..., products], 3, axis=1)
    correct = np.abs(correct - (rng.random(correct.shape) < 0.02))
    by_product = compare_rows(*count_hits(correct, products), 0)
    by_picture = compare_rows(*count_hits(correct, np.arange(1200)), 0)
    width = by_product.high[1] - by_product.low[1]
    assert width > 2 * (by_picture.high[1] - by_picture.low[1])


def test_missing_runs_leave_the_remaining_pairs() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(50, 0.8, (4, 3, 30)).astype(float)
    hits[1, 2] = hits[0, 0] = NAN  # row 1 shares only seed 1 with the baseline
    hits[2] = NAN
    result = compare_rows(hits, np.full(30, 50), 0)
    assert result.pairs.tolist() == [0, 1, 0, 2]
    assert result.estimate[1] == pytest.approx((hits[1, 1] - hits[0, 1]).sum() / 1500)
    # Row 1 has one pair; the variance between seeds comes from row 3.
    assert result.low[1] < result.estimate[1] < result.high[1]
    assert np.isnan([result.estimate[2], result.p[2], result.low[2]]).all()


def test_one_run_per_row_has_no_interval() -> None:
    hits = np.random.default_rng(0).binomial(50, 0.8, (3, 1, 30)).astype(float)
    result = compare_rows(hits, np.full(30, 50), 0)
    assert np.isnan(result.p).all() and np.isnan(result.low).all()
    assert not np.isnan(result.estimate).any()


def test_results_do_not_depend_on_the_order_of_calls() -> None:
    hits = np.random.default_rng(0).binomial(50, 0.8, (3, 3, 30)).astype(float)
    first, second = (compare_rows(hits, np.full(30, 50), 0) for _ in range(2))
    assert first.p.tolist()[1:] == second.p.tolist()[1:]
    assert first.low.tolist()[1:] == second.low.tolist()[1:]
