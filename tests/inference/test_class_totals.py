"""Scores under class totals: matching to known totals, and estimating them."""

from pathlib import Path

import numpy as np
import pytest

from product_cls.inference.class_totals import corrected, fit_temperature, matched, read_shares

HALVES = np.array([0.5, 0.5])


def drawn(shares: list[float], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores of a classifier trained with equal classes, and the classes drawn."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(shares), size=count, p=shares)
    signal = np.eye(len(shares))[truth] * 2 + rng.normal(size=(count, len(shares)))
    odds = np.exp(2 * signal)  # the likelihood ratio of unit Gaussians whose means differ by 2
    return odds / odds.sum(axis=1, keepdims=True), truth


def test_a_table_of_two_by_two_is_matched_as_computed_by_hand() -> None:
    # Its odds ratio (.8 * .4) / (.2 * .6) = 8/3 stays; with equal totals a / (1 - a) = sqrt(8/3).
    scores = matched(np.array([[0.8, 0.2], [0.6, 0.4]]), HALVES)
    a = np.sqrt(8 / 3) / (1 + np.sqrt(8 / 3))
    np.testing.assert_allclose(scores, [[a, 1 - a], [1 - a, a]], atol=1e-4)


def test_rows_sum_to_1_and_columns_to_the_totals() -> None:
    scores = np.random.default_rng(0).dirichlet([0.3] * 5, size=400)
    shares = np.array([0.5, 0.2, 0.2, 0.1, 0.0])
    result = matched(scores, shares)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(result.sum(axis=0), 400 * shares, atol=0.01)
    assert (result[:, 4] == 0).all()


def test_equal_totals_help_a_classifier_that_prefers_a_class() -> None:
    scores, truth = drawn([0.25] * 4, 800, seed=1)
    biased = scores * [20, 1, 1, 1]
    biased /= biased.sum(axis=1, keepdims=True)
    before, after = (
        float((part.argmax(axis=1) == truth).mean())
        for part in (biased, matched(biased, np.full(4, 0.25)))
    )
    assert after > before + 0.1


def test_shares_are_estimated_from_calibrated_scores() -> None:
    shares = [0.6, 0.3, 0.1]
    scores, truth = drawn(shares, 4000, seed=2)
    answers, found = corrected(scores, np.full(3, 1 / 3))
    np.testing.assert_allclose(found, shares, atol=0.03)
    right = [(part.argmax(axis=1) == truth).mean() for part in (scores, answers)]
    assert right[1] > right[0]
    # The shares of the training itself change next to nothing.
    same, _ = corrected(*drawn([1 / 3] * 3, 4000, seed=3)[:1], np.full(3, 1 / 3))
    assert np.abs(same - drawn([1 / 3] * 3, 4000, seed=3)[0]).max() < 0.1


def test_the_temperature_of_scores_that_are_too_sure() -> None:
    scores, truth = drawn([0.25] * 4, 4000, seed=4)
    sure = scores**3 / (scores**3).sum(axis=1, keepdims=True)
    assert fit_temperature(sure, truth) == pytest.approx(3, rel=0.1)
    assert fit_temperature(sure, np.full(len(sure), -1)) == 1


def test_a_file_of_counts(tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("label,count\n07,30\nb,0\ncaf\u0065\u0301,10\n")
    shares = read_shares(file, ["07", "b", "caf\u00e9"])
    np.testing.assert_allclose(shares, [0.75, 0, 0.25])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,count\na,1\n", "lacks classes of the runs: b"),
        ("label,count\na,1\nb,1\nc,1\n", "names classes that the runs do not know: c"),
        ("label,count\na,1\na,2\nb,1\n", "line 3: the class a occurs twice"),
        ("label,count\na,1\nb,-2\n", "line 3: count=-2; allowed: a number of 0 or more"),
        ("label,count\na,nan\nb,2\n", "line 2: count=nan; allowed: a number of 0 or more"),
        ("label,count\na,0\nb,0\n", "holds counts of 0 only"),
        ("name,count\na,1\nb,1\n", "label"),
    ],
)
def test_a_wrong_file_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(ValueError, match=r"counts\.csv") as caught:
        read_shares(tmp_path / "counts.csv", ["a", "b"])
    assert said in str(caught.value)
