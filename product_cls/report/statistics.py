"""What an experiment with few seeds can say: pure functions on arrays.

An experiment is ``hits[row, seed, product]``, the number of test pictures of a product that a run
got right; NaN where the run is missing. All rows saw the same seeds and the same pictures, so they
are compared in pairs. Two things vary: the seed (other weights, order, augmentation) and the
products that happen to be photographed; pictures of one product are right or wrong together, so the
product is the unit, not the picture.

How the deviation of a measured difference from the true one is distributed:

* Products are resampled with replacement, all their pictures and all rows at once (cluster
  bootstrap; Davison & Hinkley 1997, section 3.8). What varies from seed to seed within products is
  taken out of its spread, because the seeds' part holds it already: in a two-way layout
  ``Var(mean) = (MS_seed + MS_product - MS_rest) / (seeds * products)``.
* Seeds cannot be resampled when there are three: of 27 resamples a ninth holds one seed only, the
  spread comes out a third too small, and it is not known to be so. Their part is Student's t on the
  variance between seeds. Two degrees of freedom would find next to nothing, so that variance is
  pooled over the rows, as analysis of variance does; a row whose own variance is larger than the
  pooled one keeps its own, so that a noisy row does not borrow the calm of the others. Differences
  share the baseline's runs, hence are correlated by a half, and the pool of k of them is worth
  4 / (k + 3) of its nominal degrees of freedom (Satterthwaite 1946).
* The two parts are added as independent: Student's t convolved with the bootstrap. Where the second
  is normal this is the distribution of Behrens and Fisher, whose tests are conservative (Robinson
  1976, Annals of Statistics 4(5)).

``tests/report/test_report_calibration.py`` measures it on tables whose truth is known: with no
effect, 3 seeds and 10 rows, 1 to 2 % of the tables have a verdict (nominal: 5 %), also with a
baseline that varies twice as much as other rows; intervals hold the truth in 97 %.
With runs that vary by 0.7 points a row that costs 10 points is always found, one that costs 4.2 in
9 of 10 tables, one that costs 1 hardly ever: that takes more seeds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import kendalltau

DRAWS = 2000  # resamples of products
ATOMS = 256  # quantiles that stand for them; Student's t smooths what lies between
SMOOTH = 0.2  # least width of the seeds' part, of the products' standard deviation
BATCH = 10_000_000  # numbers held at once while resampling
LEVEL = 0.05  # of verdicts, for the family of all rows, and of intervals, each by itself


def count_hits(correct: np.ndarray, product: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right pictures by product, and pictures by product.

    Args:
        correct: ``[..., N]``, 0 to 1, NaN in all pictures of a run that is missing.
        product: int ``[N]``, 0 to C - 1; ``arange(N)`` makes every picture its own unit.

    Returns:
        ``hits[..., C]`` and ``sizes[C]``.
    """
    sizes = np.bincount(product)
    order = np.argsort(product, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    assert (sizes > 0).all(), "products are numbered without gaps"
    return np.add.reduceat(correct[..., order], starts, axis=-1), sizes


def seed_variance(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Variance between seeds of each row: the pooled one, or the row's own where that is larger.

    Args:
        values: ``[R, S]``, NaN where there is none.

    Returns:
        The variance of a single seed's value, ``[R]``, and its degrees of freedom (see above); NaN
        and 0 where no row has two values.
    """
    freedom = np.maximum((~np.isnan(values)).sum(axis=1) - 1, 0)
    if not freedom.any():
        return np.full(len(values), np.nan), 0.0
    centred = values - known_mean(values, axis=1)[:, None]
    squares = np.nansum(centred**2, axis=1)
    own = np.divide(squares, freedom, out=np.zeros(len(values)), where=freedom > 0)
    rows = (freedom > 0).sum()
    return np.maximum(squares.sum() / freedom.sum(), own), float(freedom.sum() * 4 / (rows + 3))


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is not NaN; NaN, without a warning, where all is."""
    count = (~np.isnan(values)).sum(axis=axis)
    total = np.nansum(values, axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@dataclass(frozen=True)
class RowSummary:
    """Accuracy of each row, ``[R]`` each; ``sd`` has ddof 1 and is NaN below two runs.

    ``low`` to ``high`` is the 95 % interval of the mean over seeds, on these very pictures.
    """

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def summarise_rows(accuracy: np.ndarray) -> RowSummary:
    """Mean, standard deviation and interval over seeds, of accuracies ``[R, S]``."""
    count = (~np.isnan(accuracy)).sum(axis=1)
    mean = known_mean(accuracy, axis=1)
    squares = np.nansum((accuracy - mean[:, None]) ** 2, axis=1)
    spread = np.divide(squares, count - 1, out=np.full(len(mean), np.nan), where=count > 1)
    variance, freedom = seed_variance(accuracy)
    scale = np.sqrt(variance / np.where(count > 0, count, np.nan))
    half = scale * (stdtrit(freedom, 1 - LEVEL / 2) if freedom else np.nan)
    return RowSummary(mean, np.sqrt(spread), mean - half, mean + half, count)


@dataclass(frozen=True)
class Deviation:
    """How far measured differences may lie from the true ones: t * scale + an atom.

    Attributes:
        scale: ``[R]``, of the seeds' part.
        freedom: of Student's t.
        atoms: ``[ATOMS, R]``, equally likely values of the products' part.
    """

    scale: np.ndarray
    freedom: float
    atoms: np.ndarray

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """P(deviation <= x), for one ``x`` a row."""
        scale = np.maximum(self.scale, 1e-9)  # runs that agree in everything
        result: np.ndarray = stdtr(self.freedom, (x - self.atoms) / scale).mean(axis=0)
        return result

    def quantile(self, q: float) -> np.ndarray:
        """Inverse of ``cdf`` for each row, by bisection."""
        reach = np.abs(self.atoms).max(axis=0)
        reach = reach + np.maximum(self.scale, 1e-9) * abs(stdtrit(self.freedom, min(q, 1 - q)))
        low, high = -reach, reach
        for _ in range(32):
            middle = (low + high) / 2
            below = self.cdf(middle) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class Differences:
    """Paired differences to the baseline, ``[R]`` each; NaN where nothing can be said.

    Attributes:
        estimate: mean over the seeds that both rows have; 0 for the baseline.
        low, high: 95 % interval over seeds and products, each row by itself.
        p: two-sided, of no difference, before any correction; NaN for the baseline.
        pairs: seeds that both rows have.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    pairs: np.ndarray


def compare_rows(
    hits: np.ndarray,
    sizes: np.ndarray,
    baseline: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    intervals: bool = True,
) -> Differences:
    """Every row against the baseline: same seeds, same pictures (method: top of this file).

    Args:
        hits: ``[R, S, C]``, NaN where a run is missing.
        sizes: pictures of each product, ``[C]``.
        baseline: which row.
        draws: resamples of products.
        seed: of the resampling; the same numbers give the same result.
        intervals: False leaves ``low`` and ``high`` NaN and saves most of the time.
    """
    pairs_of = hits - hits[baseline]
    values = pairs_of.sum(axis=2) / sizes.sum()  # [R, S]
    values[baseline] = np.nan  # 0 by definition: tells nothing about seeds
    estimate, pairs = known_mean(values, axis=1), (~np.isnan(values)).sum(axis=1)
    rows = np.flatnonzero(pairs)
    variance, freedom = seed_variance(values)
    nothing = np.full(len(hits), np.nan)
    low, high, p = nothing.copy(), nothing.copy(), nothing.copy()
    if freedom and len(sizes) > 1:
        atoms = _product_atoms(pairs_of[rows], values[rows], sizes, draws, seed)
        scale = np.sqrt(variance[rows] / pairs[rows])
        # Beyond the farthest resample the bootstrap knows no probability but 0. Student's t, kept
        # at a least width, gives it tails (a smoothed bootstrap: Silverman & Young 1987).
        scale = np.maximum(scale, SMOOTH * atoms.std(axis=0))
        deviation = Deviation(scale, freedom, atoms)
        below = deviation.cdf(estimate[rows])
        p[rows] = np.clip(2 * np.minimum(below, 1 - below), 1e-15, 1)
        if intervals:
            low[rows] = estimate[rows] - deviation.quantile(1 - LEVEL / 2)
            high[rows] = estimate[rows] - deviation.quantile(LEVEL / 2)
    estimate[baseline] = 0.0
    return Differences(estimate, low, high, p, pairs)


def _product_atoms(
    pairs_of: np.ndarray, values: np.ndarray, sizes: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Deviations that other products would bring, ``[ATOMS, R]``, centred.

    Args:
        pairs_of: differences of hits, ``[R, S, C]``.
        values: their sums over the number of pictures, ``[R, S]``.
    """
    units = len(sizes)
    mean = known_mean(pairs_of, axis=1)  # [R, C]
    # Each product's part in the deviation, seed by seed, without the seed's own mean.
    parts = (pairs_of - values[:, :, None] * sizes) / sizes.sum()
    total = (known_mean(parts, axis=1) ** 2).sum(axis=1)
    pairs = (~np.isnan(values)).sum(axis=1)
    within = np.nansum((parts - known_mean(parts, axis=1)[:, None]) ** 2, axis=(1, 2))
    within = np.divide(within, pairs * (pairs - 1), out=np.zeros(len(mean)), where=pairs > 1)
    share = np.divide(total - within, total, out=np.zeros(len(mean)), where=total > 0)
    resampled = _resample(mean, sizes, draws, np.random.default_rng(seed))
    resampled -= resampled.mean(axis=0)
    # units - 1: a resample of n values has (n - 1) / n of their variance.
    resampled *= np.sqrt(np.maximum(share, 0) * units / (units - 1))
    ranks = (np.arange(ATOMS) + 0.5) / ATOMS
    atoms: np.ndarray = np.quantile(resampled, ranks, axis=0)
    # With few products their own variance is not known well either: tails of Student's t.
    return atoms * (stdtrit(units - 1, ranks) / ndtri(ranks))[:, None]


def _resample(
    sums: np.ndarray, sizes: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Accuracies of resampled products, ``[draws, R]``, of sums ``[R, C]``."""
    units, parts = len(sizes), []
    step = max(1, BATCH // units)
    for start in range(0, draws, step):
        weights = rng.multinomial(units, np.full(units, 1 / units), min(step, draws - start))
        parts.append((weights @ sums.T) / (weights @ sizes)[:, None])
    return np.concatenate(parts)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm 1979): no family-wise error above the level.

    NaN, of a comparison that was planned and cannot be made yet, counts as one of them and stays
    NaN: the rows that came first must not be judged more mildly than they will be in the end.
    """
    p = np.asarray(p, dtype=float)
    known = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(known, kind="stable")
    stepped = np.maximum.accumulate(known[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(stepped, 1)
    return np.where(np.isnan(p), np.nan, adjusted)


@dataclass(frozen=True)
class Tau:
    """Kendall's rank correlation (tau-b) with its 95 % interval, of ``count`` rows."""

    value: float
    low: float
    high: float
    count: int


def rank_agreement(
    hits: np.ndarray, sizes: np.ndarray, other: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Tau | None:
    """How far the order of the rows agrees with another order, for instance the published one.

    The interval: products are resampled, and each row's mean moves by the noise of its seeds; what
    a seed does to all rows alike does not change their order and is left out of it. The other order
    is taken as it is.

    Args:
        hits: ``[R, S, C]``, without the row that others are compared with.
        other: ``[R]``, for instance published scores.

    Returns:
        None where fewer than three rows have a value in both.
    """
    accuracy = hits.sum(axis=2) / sizes.sum()
    rows = ~np.isnan(known_mean(accuracy, axis=1)) & ~np.isnan(other)
    accuracy, hits, other = accuracy[rows], hits[rows], other[rows]
    if rows.sum() < 3:
        return None
    value = float(kendalltau(known_mean(accuracy, axis=1), other).statistic)
    # Without what all rows share in a seed.
    variance, freedom = seed_variance(accuracy - known_mean(accuracy, axis=0))
    if not freedom:
        return Tau(value, np.nan, np.nan, int(rows.sum()))
    rng = np.random.default_rng(seed)
    scale = np.sqrt(variance / (~np.isnan(accuracy)).sum(axis=1))
    moved = _resample(known_mean(hits, axis=1), sizes, draws, rng)
    moved = moved + rng.standard_t(freedom, size=moved.shape) * scale
    taus = [kendalltau(row, other).statistic for row in moved]
    low, high = np.nanquantile(taus, [LEVEL / 2, 1 - LEVEL / 2])
    return Tau(value, float(low), float(high), int(rows.sum()))
