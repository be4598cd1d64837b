"""Verdicts: how often they are wrong on tables with known effects, and what a decision takes."""

from collections.abc import Sequence

import numpy as np
import pytest
from test_report_calibration import synthetic_tables

from product_cls.report.statistics import LEVEL, Differences, Noise, compare_rows, holm
from product_cls.report.verdicts import decide, further_seeds, seeds_to_bound, seeds_to_show

MARGIN = 0.01
# Rows without an effect, and with effects of half a point, of the margin, and of three points.
EFFECTS = (0.0, 0.0, 0.005, -0.005, 0.01, -0.01, 0.03, -0.03)


def compared(
    count: int, effects: Sequence[float], **setting: float | int
) -> list[tuple[Differences, np.ndarray]]:
    """Differences and corrected p-values of made-up tables."""
    results = []
    for hits, sizes in synthetic_tables(count, effects, noisier=(1.0,) * len(effects), **setting):  # type: ignore[arg-type]
        differences = compare_rows(hits, sizes, 0, draws=200)
        p = np.full(len(effects), np.nan)
        p[1:] = holm(differences.p[1:])
        results.append((differences, p))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 12])
def test_error_rates_of_all_verdicts(seeds: int) -> None:
    """500 tables with effects of 0, .5, 1 and 3 points.

    Wrong are: lower or higher without an effect (family-wise 5 %) or against its sign; negligible
    with an effect of the margin or more (2.5 % a row). Bounds leave room for chance: three standard
    errors of 500 tables.
    """
    tables = compared(500, EFFECTS, seeds=seeds, seed_sd=0.004, suits=0.01, pictures=48)
    words = np.array([decide(differences, p, MARGIN) for differences, p in tables])
    truth = np.array(EFFECTS)
    shown = np.isin(words, ["lower", "higher"])
    false = shown[:, truth == 0][:, 1:].any(axis=1).mean()
    assert false <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 500)
    against = ((words == "lower") & (truth > 0)) | ((words == "higher") & (truth < 0))
    assert against.mean() <= 0.005
    bounded = words == "negligible"
    for effect in (0.01, -0.01):
        assert bounded[:, truth == effect].mean() <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 500)
    assert not bounded[:, abs(truth) == 0.03].any()
    # Not by never deciding: large effects are shown, and with enough seeds none is bounded.
    assert shown[:, abs(truth) == 0.03].mean() >= (0.6 if seeds == 3 else 0.999)
    assert bounded[:, truth == 0][:, 1:].mean() >= (0.0 if seeds == 3 else 0.5)


@pytest.mark.parametrize(
    ("low", "high", "p", "word"),
    [
        (-0.004, 0.009, 0.5, "negligible"),
        (0.001, 0.009, 0.001, "negligible"),
        (0.001, 0.011, 0.001, "higher"),
        (-0.02, -0.001, 0.01, "lower"),
        (-0.02, -0.001, 0.06, "undecided"),
        (-0.011, 0.009, 0.9, "undecided"),
        (np.nan, np.nan, np.nan, "undecided"),
    ],
)
def test_negligible_before_shown_before_undecided(
    low: float, high: float, p: float, word: str
) -> None:
    one = np.array([(low + high) / 2])
    noise = Noise(one, one, one, np.zeros((1, 1)))
    differences = Differences(one, np.array([low]), np.array([high]), np.array([p]), one, noise)
    assert decide(differences, np.array([p]), MARGIN) == [word]


def test_as_many_seeds_as_it_says_decide() -> None:
    """Further seeds and the planned numbers agree with tables of so many seeds."""
    ((differences, p),) = compared(1, (0.0, 0.0, 0.004), seeds=4, seed_sd=0.01, suits=0.005)
    lacking = further_seeds(differences, p, MARGIN)
    assert np.isnan(lacking[0]) and (lacking[1:] > 0).all()
    for row in (1, 2):
        for more, decided in ((lacking[row], True), (lacking[row] - 1, False)):
            seeds = np.full(3, 4 + int(more))
            deviation = differences.noise.deviation(seeds)
            low = differences.estimate - deviation.quantile(1 - LEVEL / 2)
            high = differences.estimate - deviation.quantile(LEVEL / 2)
            below = deviation.cdf(differences.estimate)
            shown = 2 * np.minimum(below, 1 - below) * p / differences.p < LEVEL
            assert (shown | ((low >= -MARGIN) & (high <= MARGIN)))[row] == decided


def test_planned_seeds_have_the_power_asked_for() -> None:
    setting: dict[str, float | int] = {"seed_sd": 0.01, "suits": 0.005}
    ((pilot, _),) = compared(1, (0.0,) * 10, seeds=12, **setting)
    show = seeds_to_show(pilot.noise, 0.02, rows=9, power=0.8)[1:]
    bound = seeds_to_bound(pilot.noise, 0.015, power=0.8)[1:]
    seeds = round(float(np.median(show)))
    assert 2 <= seeds < 30 and 2 <= np.median(bound) < 60
    tables = compared(40, (0.0,) + (0.02,) * 9, seeds=seeds, **setting)
    assert 0.6 <= np.mean([p[1:] < LEVEL for _, p in tables]) <= 0.97
    seeds = round(float(np.median(bound)))
    tables = compared(40, (0.0,) * 10, seeds=seeds, **setting)
    words = [decide(differences, p, 0.015)[1:] for differences, p in tables]
    assert 0.6 <= np.mean(np.array(words) == "negligible") <= 0.97


def test_too_few_products_never_decide() -> None:
    ((differences, p),) = compared(1, (0.0, 0.0), products=8, suits=0.1)
    assert np.isinf(further_seeds(differences, p, MARGIN)[1])
    assert np.isinf(seeds_to_bound(differences.noise, MARGIN, power=0.8)[1])
