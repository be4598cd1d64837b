"""Whether the measured order of rows contradicts another order, such as a published one.

Noise alone changes an order: with nine rows whose true effects are as published, runs that vary by
1.4 points and three seeds, the measured order has a Kendall's tau of about 0.6 with the published
one, not of 1. Resampling the measured means says nothing about that, because it adds noise to
noise. Two questions have answers:

* Which orders of the true effects does the measurement allow? A pair of rows has a shown order if
  its difference is larger than the noise of the largest of all pairs allows (simultaneous intervals
  of all differences; Mogstad, Romano, Shaikh & Wilhelm 2024, Review of Economic Studies 91(1)). All
  other pairs may have either order. This bounds the tau of the true order, whatever the effects.
* How likely is the measured tau if the true effects are the published ones? The published values
  plus the measured noise are drawn many times.

The noise is that of ``statistics``: Student's t between seeds, and resampled products. What a seed
or a product changes in all rows alike does not change their order, and is left out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri
from scipy.stats import kendalltau

from product_cls.report.statistics import (
    DRAWS,
    LEVEL,
    known_mean,
    product_deviations,
    seed_variance,
)

FEWEST = 3  # rows with a rank correlation


@dataclass(frozen=True)
class Tau:
    """Kendall's rank correlation (tau-b) with another order, over ``count`` rows.

    Attributes:
        value: of the measured order.
        low, high: 95 % confidence interval for the tau of the true order; it contains 1 unless a
            pair of rows is shown to have the reverse order. NaN if the noise is unknown.
        expected_low, expected_high: 95 % of the values that would be measured if the true effects
            were the published ones; NaN if the noise is unknown.
        p: probability of a measured tau as low as ``value``, or lower, in that case.
        count: number of rows.
    """

    value: float
    low: float
    high: float
    expected_low: float
    expected_high: float
    p: float
    count: int

    @property
    def differs(self) -> bool:
        """Whether the true order is shown not to be the other one."""
        return self.high < 1


def rank_agreement(
    hits: np.ndarray, sizes: np.ndarray, other: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Tau | None:
    """Agreement of the order of the rows with another order (method: top of file).

    Args:
        hits: float ``[R, S, C]``, without the baseline; NaN for missing runs.
        sizes: pictures of each product, int ``[C]``.
        other: accuracies in per cent, ``[R]``, such as published ones; they count as exact.
        draws: of the noise.
        seed: of the draws.

    Returns:
        None if fewer than three rows have a value in both.
    """
    accuracy = hits.sum(axis=2) / sizes.sum()
    rows = ~np.isnan(known_mean(accuracy, axis=1)) & ~np.isnan(other)
    count = int(rows.sum())
    if count < FEWEST:
        return None
    hits, other = hits[rows], other[rows] / 100
    mean = known_mean(accuracy[rows], axis=1)
    value = float(kendalltau(mean, other).statistic)
    noise = _noise(hits, sizes, draws, seed)
    if noise is None:
        return Tau(value, np.nan, np.nan, np.nan, np.nan, np.nan, count)
    first, second = np.triu_indices(count, 1)
    ordered = np.sign(other[first] - other[second])
    drawn, scale = noise
    pairs = drawn[:, first] - drawn[:, second]
    reach = np.quantile(np.abs(pairs / scale).max(axis=1), 1 - LEVEL) * scale
    difference = mean[first] - mean[second]
    shown = np.where(np.abs(difference) > reach, np.sign(difference) * ordered, 0)
    known = (ordered != 0).sum()
    open_pairs = ((shown == 0) & (ordered != 0)).sum()
    taus = (np.sign(other[first] - other[second] + pairs) * ordered).sum(axis=1) / known
    low, high = np.quantile(taus, [LEVEL / 2, 1 - LEVEL / 2])
    return Tau(
        value=value,
        low=float((shown.sum() - open_pairs) / known),
        high=float((shown.sum() + open_pairs) / known),
        expected_low=float(low),
        expected_high=float(high),
        p=float(((taus <= value + 1e-9).sum() + 1) / (draws + 1)),
        count=count,
    )


def _noise(
    hits: np.ndarray, sizes: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draws of the error of each row's mean, and the scale of the error of each pair's difference.

    Returns:
        Float ``[draws, R]``, and ``[R * (R - 1) / 2]`` in the order of ``np.triu_indices``; None if
        there is only one run of each row or only one product.
    """
    own = hits - known_mean(hits, axis=0)  # what is common to all rows changes no order
    values = own.sum(axis=2) / sizes.sum()
    variance, freedom = seed_variance(values)
    if not freedom.any() or len(sizes) < 2:
        return None
    rows = len(hits)
    # Subtracting the mean of R rows takes 1 / R of the variance away.
    scale = np.sqrt(variance * rows / (rows - 1) / (~np.isnan(values)).sum(axis=1))
    rng = np.random.default_rng([seed, 1])
    # The rows share the estimate of the variance: if it is too low, it is so for all.
    luck = rng.random((draws, 1))
    spread = np.sqrt(chdtri(freedom, luck) / freedom)
    between_seeds = rng.normal(size=(draws, rows)) * scale / spread
    products = product_deviations(own, values, sizes, draws, seed)
    first, second = np.triu_indices(rows, 1)
    of_products = (products[:, first] - products[:, second]).var(axis=0)
    pair_scale = np.sqrt(scale[first] ** 2 + scale[second] ** 2 + of_products)
    return between_seeds + products, np.maximum(pair_scale, 1e-9)
