"""Claims about the order of rows, on tables whose true order is known."""

import numpy as np
import pytest
from scipy import stats
from test_report_calibration import PUBLISHED, synthetic_tables

from product_cls.report.rank_agreement import Tau, rank_agreement

NAN = float("nan")
EFFECTS = np.array(PUBLISHED)
TABLES = 120


def agreements(
    truth: np.ndarray, other: np.ndarray, tables: int = TABLES, **setting: float
) -> list[Tau]:
    """Of tables with the true effects ``truth``, against the values ``other``, both as shares."""
    found = (
        rank_agreement(hits[1:], sizes, 100 * other[1:], draws=300)
        for hits, sizes in synthetic_tables(
            tables, tuple(truth), products=48, pictures=24, **setting
        )
    )
    return [tau for tau in found if tau is not None]


@pytest.mark.parametrize("size", [0.3, 1, 3])
def test_the_true_order_is_covered(size: float) -> None:
    """Runs that vary by 1.4 points: the published order is the true one, in three sizes."""
    taus = agreements(size * EFFECTS, size * EFFECTS, seed_sd=0.014)
    assert len(taus) == TABLES
    assert np.mean([tau.low <= 1 <= tau.high for tau in taus]) >= 0.95
    assert np.mean([tau.p < 0.05 for tau in taus]) <= 0.05
    inside = [tau.expected_low <= tau.value <= tau.expected_high for tau in taus]
    assert np.mean(inside) >= 0.93  # 95 % of infinitely many tables
    # Noise alone keeps the measured order away from the true one.
    assert np.mean([tau.value for tau in taus]) < 0.85


def test_another_order_is_noticed_and_its_tau_is_covered() -> None:
    reverse = EFFECTS[[0, *range(9, 0, -1)]]
    for sd, power in ((0.002, 1.0), (0.014, 0.8)):
        taus = agreements(reverse, EFFECTS, 30, seed_sd=sd, suits=0.005)
        assert np.mean([tau.differs for tau in taus]) >= power
        assert all(tau.low <= -1 <= tau.high and tau.p < 0.05 for tau in taus)
    # One pair of rows is the other way round, which takes little noise to see.
    swapped = EFFECTS[[0, 2, 1, *range(3, 10)]]
    taus = agreements(swapped, EFFECTS, 30, seed_sd=0.002, suits=0.005)
    assert np.mean([tau.differs for tau in taus]) > 0.5
    assert np.mean([tau.low <= 34 / 36 <= tau.high + 1e-9 for tau in taus]) >= 0.9


def test_other_sizes_of_the_same_order_are_no_other_order() -> None:
    """The interval is about the order; ``p`` is about the published differences."""
    taus = agreements(0 * EFFECTS, EFFECTS, 60, seed_sd=0.014)
    assert np.mean([tau.differs for tau in taus]) <= 0.05
    assert np.mean([tau.p < 0.05 for tau in taus]) > 0.4


def test_tau_equals_scipys_and_its_interval_widens_with_noise() -> None:
    rng = np.random.default_rng(0)
    published = np.array([81.5, 87.2, 90.4, 90.7, 90.9, 91.0, 91.02, 91.1, 91.3])
    widths = []
    for noise in (0.0001, 0.01, 0.2):
        share = published[:, None, None] / 100 + rng.normal(0, noise, (9, 3, 1))
        hits = (share * 50).clip(0, 50) * np.ones(40)
        result = rank_agreement(hits, np.full(40, 50), published, draws=400)
        assert result is not None and result.count == 9
        expected = stats.kendalltau(hits.sum(axis=(1, 2)), published).statistic
        assert result.value == pytest.approx(expected)
        assert result.low <= result.value <= result.high
        widths.append(result.high - result.low)
    assert widths == sorted(widths) and widths[0] < widths[1]


def test_tau_needs_three_rows_and_its_interval_two_runs() -> None:
    hits = np.random.default_rng(0).binomial(5, 0.5, (4, 3, 10)).astype(float)
    sizes, other = np.full(10, 5), np.arange(4.0)
    alone = rank_agreement(hits[:, :1], sizes, other)
    assert alone is not None and np.isnan([alone.low, alone.p]).all()
    hits[:2] = NAN
    assert rank_agreement(hits, sizes, other) is None
