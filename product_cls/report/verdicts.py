"""Verdicts on measured differences, and how many seeds a verdict takes.

More seeds shrink the part of a difference's error that comes from seeds. The part that comes from
the choice of products stays; where it is too large, only a test with more products decides.
"""

from collections.abc import Callable

import numpy as np

from product_cls.report.statistics import LEVEL, Differences, Noise

MOST = 512  # seeds that are tried; a verdict that needs more counts as out of reach


def is_negligible(low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """Whether the whole 95 % interval is within ``margin`` of 0: equivalence by two one-sided tests
    (Schuirmann 1987) at 2.5 % each.

    Args:
        low, high: float ``[R]``, shares; NaN where unknown.
        margin: a share.

    Returns:
        bool ``[R]``; False where unknown.
    """
    inside: np.ndarray = (low >= -margin) & (high <= margin)
    return inside


def decide(differences: Differences, p: np.ndarray, margin: float) -> list[str]:
    """The verdict on each of R differences.

    It is ``lower``, ``higher``, ``negligible`` or ``undecided``. ``tests/report/test_verdicts.py``
    measures how often verdicts are wrong, on tables with known effects.

    Args:
        differences: to the baseline.
        p: their p-values, corrected for the number of rows, ``[R]``; NaN where unknown.
        margin: a share above 0.
    """
    inside = is_negligible(differences.low, differences.high, margin)
    signs = np.where(differences.estimate < 0, "lower", "higher")
    shown = np.where(p < LEVEL, signs, "undecided")
    # First: an effect that is shown, and shown to be smaller than the margin, is negligible.
    return [str(word) for word in np.where(inside, "negligible", shown)]


def further_seeds(differences: Differences, p: np.ndarray, margin: float) -> np.ndarray:
    """Seeds that each undecided row lacks, if its difference stays as measured.

    A row is decided once its corrected p-value is below ``LEVEL`` or its interval is within the
    margin. The correction of a p-value is kept as it is with the seeds at hand.

    Args:
        differences: with R rows.
        p: their p-values, corrected for the number of rows, ``[R]``.
        margin: a share.

    Returns:
        float ``[R]``: 0 if decided, infinite if no number of seeds up to ``MOST`` decides, NaN
        where the noise is unknown.
    """
    noise, estimate = differences.noise, differences.estimate
    with np.errstate(invalid="ignore"):
        factor = np.maximum(p / differences.p, 1)

    def decided(seeds: np.ndarray) -> np.ndarray:
        deviation = noise.deviation(seeds)
        below = deviation.cdf(estimate)
        shown = 2 * np.minimum(below, 1 - below) * factor < LEVEL
        half = deviation.quantile(1 - LEVEL / 2)
        inside = is_negligible(estimate - half, estimate - deviation.quantile(LEVEL / 2), margin)
        return shown | inside

    known = ~np.isnan(differences.p)
    first = np.where(known, noise.seeds, 1)
    needed = fewest_seeds(decided, first) - first
    return np.where(known, needed, np.nan)


def fewest_seeds(holds: Callable[[np.ndarray], np.ndarray], first: np.ndarray) -> np.ndarray:
    """The fewest seeds with which something holds, for each of R rows, by bisection.

    Args:
        holds: of a number of seeds for each row, int ``[R]``; once true, true for more seeds.
        first: fewest to try, int ``[R]``, 1 or more.

    Returns:
        float ``[R]``; infinite where it does not hold with ``MOST`` seeds.
    """
    low, high = first - 1, np.full(len(first), MOST)
    reachable = holds(high)
    while (low + 1 < high).any():
        middle = np.where(low + 1 < high, (low + high) // 2, high)
        enough = holds(middle)
        low = np.where(enough, low, np.minimum(middle, high - 1))
        high = np.where(enough, middle, high)
    return np.where(reachable, high, np.inf)


def seeds_to_show(noise: Noise, effect: float, *, rows: int, power: float) -> np.ndarray:
    """Seeds that show a true difference, for each of R rows.

    Args:
        noise: of R rows.
        effect: the true difference, a share above 0.
        rows: planned comparisons, for whose number the p-values are corrected (Bonferroni, which is
            Holm's correction of the first row).
        power: probability of showing it, in (0, 1).

    Returns:
        float ``[R]``, 2 or more; infinite if ``MOST`` do not suffice, NaN where the noise is
        unknown.
    """

    def shows(seeds: np.ndarray) -> np.ndarray:
        deviation = noise.deviation(seeds)
        critical = deviation.quantile(1 - LEVEL / (2 * rows))
        enough: np.ndarray = 1 - deviation.cdf(critical - effect) >= power
        return enough

    return _from_two(shows, noise)


def seeds_to_bound(noise: Noise, margin: float, *, power: float) -> np.ndarray:
    """Seeds that show a true difference of 0 to be negligible; arguments as of ``seeds_to_show``.

    Args:
        margin: a share above 0.
    """

    def bounds(seeds: np.ndarray) -> np.ndarray:
        deviation = noise.deviation(seeds)
        upper, lower = deviation.quantile(1 - LEVEL / 2), deviation.quantile(LEVEL / 2)
        # The interval is [d - upper, d - lower] for a measured difference d.
        most, least = margin + lower, upper - margin
        enough: np.ndarray = deviation.cdf(most) - deviation.cdf(least) >= power
        return enough & (most > least)

    return _from_two(bounds, noise)


def _from_two(holds: Callable[[np.ndarray], np.ndarray], noise: Noise) -> np.ndarray:
    known = ~np.isnan(noise.variance) & ~np.isnan(noise.atoms).any(axis=0)
    needed = fewest_seeds(holds, np.full(len(known), 2))
    return np.where(known, needed, np.nan)
