"""Statistics of experiments with few seeds: pure functions on arrays.

An experiment is ``hits[row, seed, product]``: the number of test pictures of a product that a run
classified correctly, NaN for a missing run. All rows share seeds and pictures, so comparisons are
paired. There are two sources of variation: the seed (weights, order, augmentation) and the choice
of products. Pictures of one product tend to be right or wrong together, so the unit is the product,
not the picture.

The error of a measured difference has two parts:

* Products: they are resampled with replacement, each with all its pictures and all rows at once
  (cluster bootstrap; Davison & Hinkley 1997, section 3.8). Variation between seeds within products
  is removed from the bootstrap's spread, because the seeds' part already contains it: in a two-way
  layout ``Var(mean) = (MS_seed + MS_product - MS_rest) / (seeds * products)``.
* Seeds: three are too few to resample. A ninth of the 27 resamples hold a single seed, and the
  spread is silently underestimated by a third. Their part is Student's t on the variance between
  seeds. With two degrees of freedom it would detect next to nothing, so the
  variance is pooled over the rows, as in the analysis of variance. A row with a variance above the
  pooled one keeps its own, so that a noisy row does not profit from stable ones. Differences share
  the baseline's runs and are therefore correlated by one half; the pool of k of them has
  4 / (k + 3) of its nominal degrees of freedom (Satterthwaite 1946). The farther a row's own
  variance is above the pool's, the fewer degrees of freedom it has, down to those of its own seeds
  (as in Welch 1947): ``1 / f = w / f_pool + (1 - w) / f_own`` with
  ``w = (pooled / own variance)^2``, chosen by simulation.

The two parts are treated as independent: Student's t is convolved with the bootstrap. If the
bootstrap is normal, this is the Behrens-Fisher distribution, whose tests are conservative (Robinson
1976, Annals of Statistics 4(5)).

``tests/report/test_report_calibration.py`` measures the method on tables with a known truth. With
no effect, 3 seeds and 10 rows, 1 to 2 % of the tables have a verdict (nominal: 5 %), also if the
baseline varies twice as much as the other rows; a row that varies three times as much as the others
has a p-value below .05 in 5 % of the tables, before Holm; intervals contain the truth in 97 %. If
runs vary by 0.7 points, a loss of 10 points is detected in 97 of 100 tables, a loss of 4.2 points
in 8 of 10, and a loss of 1 point hardly ever: that needs more seeds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

DRAWS = 2000  # resamples of products
ATOMS = 256  # quantiles that represent the resamples; Student's t smooths between them
SMOOTH = 0.2  # least scale of the seeds' part, relative to the products' standard deviation
BATCH = 10_000_000  # most numbers in memory at once while resampling
LEVEL = 0.05  # family-wise for the verdicts of all rows; intervals have it individually


def count_hits(correct: np.ndarray, product: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum correct decisions by product.

    Args:
        correct: float ``[..., N]``, 0 to 1; NaN for all pictures of a missing run.
        product: int ``[N]``, 0 to C - 1 without gaps; ``arange(N)`` makes every picture its own
            unit.

    Returns:
        Hits, float ``[..., C]``, and the pictures of each product, int ``[C]``.
    """
    sizes = np.bincount(product)
    order = np.argsort(product, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    assert (sizes > 0).all(), "products are numbered without gaps"
    return np.add.reduceat(correct[..., order], starts, axis=-1), sizes


def seed_variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance between seeds of each row: pooled over the rows, or the row's own if that is larger.

    Args:
        values: float ``[R, S]``, NaN if missing.

    Returns:
        The variance of a single seed's value and its degrees of freedom (see the top of this
        file), float ``[R]`` each; NaN and 0 if no row has two values.
    """
    freedom = np.maximum((~np.isnan(values)).sum(axis=1) - 1, 0)
    if not freedom.any():
        return np.full(len(values), np.nan), np.zeros(len(values))
    centred = values - known_mean(values, axis=1)[:, None]
    squares = np.nansum(centred**2, axis=1)
    own = np.divide(squares, freedom, out=np.zeros(len(values)), where=freedom > 0)
    pooled = squares.sum() / freedom.sum()
    pooled_freedom = freedom.sum() * 4 / ((freedom > 0).sum() + 3)
    variance = np.maximum(pooled, own)
    share = np.divide(pooled, variance, out=np.ones(len(own)), where=variance > 0) ** 2
    own_freedom = np.clip(freedom, 1, pooled_freedom)
    return variance, 1 / (share / pooled_freedom + (1 - share) / own_freedom)


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of a float array over ``axis``, without NaN values; NaN without a warning if all are."""
    count = (~np.isnan(values)).sum(axis=axis)
    total = np.nansum(values, axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@dataclass(frozen=True)
class RowSummary:
    """Accuracy of each row over its seeds, ``[R]`` each.

    Attributes:
        mean: NaN without runs.
        sd: standard deviation between runs (ddof 1); NaN for fewer than two runs.
        low, high: 95 % interval of the mean over seeds, for these pictures.
        count: finished runs.
    """

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def summarise_rows(accuracy: np.ndarray) -> RowSummary:
    """Mean, standard deviation and interval over seeds of accuracies, float ``[R, S]`` with NaN."""
    count = (~np.isnan(accuracy)).sum(axis=1)
    mean = known_mean(accuracy, axis=1)
    squares = np.nansum((accuracy - mean[:, None]) ** 2, axis=1)
    spread = np.divide(squares, count - 1, out=np.full(len(mean), np.nan), where=count > 1)
    variance, freedom = seed_variance(accuracy)
    scale = np.sqrt(variance / np.where(count > 0, count, np.nan))
    half = scale * stdtrit(freedom, 1 - LEVEL / 2)
    return RowSummary(mean, np.sqrt(spread), mean - half, mean + half, count)


@dataclass(frozen=True)
class Deviation:
    """Distribution of measured minus true differences: Student's t times ``scale``, plus an atom.

    Attributes:
        scale: scale of the seeds' part, ``[R]``.
        freedom: degrees of freedom of Student's t, ``[R]``.
        atoms: equally likely values of the products' part, ``[ATOMS, R]``.
    """

    scale: np.ndarray
    freedom: np.ndarray
    atoms: np.ndarray

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """P(deviation <= x) of each row, for ``x [R]``."""
        scale = np.maximum(self.scale, 1e-9)  # 0 if the runs agree completely
        result: np.ndarray = stdtr(self.freedom, (x - self.atoms) / scale).mean(axis=0)
        return result

    def quantile(self, q: float) -> np.ndarray:
        """Inverse of ``cdf`` at ``q`` for each row, ``[R]``, by bisection."""
        reach = np.abs(self.atoms).max(axis=0)
        reach = reach + np.maximum(self.scale, 1e-9) * abs(stdtrit(self.freedom, min(q, 1 - q)))
        low, high = -reach, reach
        for _ in range(20):  # to a millionth of the reach
            middle = (low + high) / 2
            below = self.cdf(middle) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class Noise:
    """What makes measured differences uncertain, ``[R]`` each; NaN where it is unknown.

    Attributes:
        variance: between seeds, of the difference of one seed.
        freedom: its degrees of freedom, with the seeds at hand.
        seeds: pairs at hand.
        atoms: deviations by the choice of products, ``[ATOMS, R]``, equally likely.
    """

    variance: np.ndarray
    freedom: np.ndarray
    seeds: np.ndarray
    atoms: np.ndarray

    def deviation(self, seeds: np.ndarray | int) -> Deviation:
        """The deviation with as many seeds, ``[R]`` or one number; it must be 2 or more, except for
        rows that have one pair and take their variance from the others."""
        more = np.maximum(np.asarray(seeds) - 1, 1) / np.maximum(self.seeds - 1, 1)
        # The bootstrap gives probability 0 beyond its farthest resample. A minimal scale of
        # Student's t adds tails (smoothed bootstrap: Silverman & Young 1987).
        scale = np.maximum(np.sqrt(self.variance / seeds), SMOOTH * self.atoms.std(axis=0))
        return Deviation(scale, self.freedom * more, self.atoms)


@dataclass(frozen=True)
class Differences:
    """Paired differences to the baseline, ``[R]`` each; NaN if they cannot be computed.

    Attributes:
        estimate: mean over the seeds that both rows have; 0 for the baseline.
        low, high: 95 % interval over seeds and products, without correction for several rows.
        p: two-sided p-value for no difference, without correction; NaN for the baseline.
        pairs: number of seeds that both rows have.
        noise: of the differences.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    pairs: np.ndarray
    noise: Noise


def compare_rows(
    hits: np.ndarray,
    sizes: np.ndarray,
    baseline: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    intervals: bool = True,
) -> Differences:
    """Compare every row with the baseline on the same seeds and pictures (method: top of file).

    Args:
        hits: correct decisions, float ``[R, S, C]``; NaN for missing runs.
        sizes: pictures of each product, int ``[C]``.
        baseline: position of the baseline's row.
        draws: resamples of products.
        seed: seed of the resampling.
        intervals: False leaves ``low`` and ``high`` NaN and saves most of the time.
    """
    pairs_of = hits - hits[baseline]
    values = pairs_of.sum(axis=2) / sizes.sum()  # [R, S]
    values[baseline] = np.nan  # 0 by definition, so it carries no information on seeds
    estimate, pairs = known_mean(values, axis=1), (~np.isnan(values)).sum(axis=1)
    rows = np.flatnonzero(pairs)
    variance, freedom = seed_variance(values)
    nothing = np.full(len(hits), np.nan)
    low, high, p = nothing.copy(), nothing.copy(), nothing.copy()
    atoms = np.full((ATOMS, len(hits)), np.nan)
    noise = Noise(np.where(pairs > 0, variance, np.nan), freedom, pairs, atoms)
    if freedom.any() and len(sizes) > 1:
        atoms[:, rows] = _product_atoms(pairs_of[rows], values[rows], sizes, draws, seed)
        deviation = noise.deviation(np.maximum(pairs, 1))
        below = deviation.cdf(estimate)
        p = np.clip(2 * np.minimum(below, 1 - below), 1e-15, 1)
        if intervals:
            low = estimate - deviation.quantile(1 - LEVEL / 2)
            high = estimate - deviation.quantile(LEVEL / 2)
    estimate[baseline] = 0.0
    return Differences(estimate, low, high, p, pairs, noise)


def _product_atoms(
    pairs_of: np.ndarray, values: np.ndarray, sizes: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Quantiles of ``product_deviations``, float ``[ATOMS, R]``."""
    ranks = (np.arange(ATOMS) + 0.5) / ATOMS
    atoms: np.ndarray = np.quantile(
        product_deviations(pairs_of, values, sizes, draws, seed), ranks, axis=0
    )
    # The variance of few products is uncertain, too, hence the tails of Student's t.
    return atoms * (stdtrit(len(sizes) - 1, ranks) / ndtri(ranks))[:, None]


def product_deviations(
    pairs_of: np.ndarray, values: np.ndarray, sizes: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Deviations from resampling products, of all rows at once, float ``[draws, R]``, centred.

    Args:
        pairs_of: differences of hits, ``[R, S, C]``.
        values: their sums divided by the number of pictures, ``[R, S]``.
    """
    units = len(sizes)
    mean = known_mean(pairs_of, axis=1)  # [R, C]
    # Each product's contribution to the deviation by seed, without the seed's mean.
    parts = (pairs_of - values[:, :, None] * sizes) / sizes.sum()
    total = (known_mean(parts, axis=1) ** 2).sum(axis=1)
    pairs = (~np.isnan(values)).sum(axis=1)
    within = np.nansum((parts - known_mean(parts, axis=1)[:, None]) ** 2, axis=(1, 2))
    within = np.divide(within, pairs * (pairs - 1), out=np.zeros(len(mean)), where=pairs > 1)
    share = np.divide(total - within, total, out=np.zeros(len(mean)), where=total > 0)
    resampled = _resample(mean, sizes, draws, np.random.default_rng(seed))
    resampled -= resampled.mean(axis=0)
    # units - 1, because resampling n values gives (n - 1) / n of their variance.
    resampled *= np.sqrt(np.maximum(share, 0) * units / (units - 1))
    return resampled


def _resample(
    sums: np.ndarray, sizes: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Accuracies over resampled products, ``[draws, R]``, from their hits ``[R, C]``."""
    units, parts = len(sizes), []
    step = max(1, BATCH // units)
    for start in range(0, draws, step):
        weights = rng.multinomial(units, np.full(units, 1 / units), min(step, draws - start))
        parts.append((weights @ sums.T) / (weights @ sizes)[:, None])
    return np.concatenate(parts)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for their number (Holm 1979), which bounds the family-wise error rate.

    NaN stands for a planned comparison that is not yet possible. It counts and stays NaN, so that
    early rows are not judged more leniently than at the end.

    Args:
        p: float ``[K]``, 0 to 1.

    Returns:
        Float64 ``[K]``, 0 to 1.
    """
    p = np.asarray(p, dtype=float)
    filled = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(filled, kind="stable")
    stepped = np.maximum.accumulate(filled[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(stepped, 1)
    return np.where(np.isnan(p), np.nan, adjusted)
