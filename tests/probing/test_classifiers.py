"""Classifiers of fixed features against scikit-learn, and their heads."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from product_cls.probing.choose import best_temperature, fit_classifier, log_loss
from product_cls.probing.classifiers import CLASSIFIERS, Linear, NearestPictures, Standard


def blobs(count: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[count, 6]`` of three classes, of unlike scales, one of them constant."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(3, 6)) * 2
    target = np.arange(count) % 3
    features = means[target] + spread * rng.normal(size=(count, 6))
    features = features * [1, 100, 0.01, 1, 1, 0] + [0, 50, 0, 0, 0, 7]
    return features.astype(np.float32), target


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits).double(), 1).numpy()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_learns_and_its_head_gives_the_same_logits(name: str) -> None:
    features, target = blobs(90)
    new, truth = blobs(300, seed=1)
    parts = np.arange(90) % 4 - 1  # a quarter is never held out
    fitted, choice = fit_classifier(name, features, target, parts, 3, seed=0)
    logits = fitted.logits(new)
    assert (logits.argmax(axis=1) == truth).mean() > 0.9
    assert choice.loss is not None and choice.loss < 0.4
    assert log_loss(logits.astype(float), truth) < 0.4  # probabilities, not only decisions
    with torch.inference_mode():
        outputs = fitted.head()(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(softmax(outputs), softmax(logits), atol=2e-4)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    features, target = blobs(60, spread=2.5)
    setting = 0.03
    ours = CLASSIFIERS["logistic"]().fit(features, target, 3, setting)
    standard = Standard.of(features)
    theirs = LogisticRegression(C=1 / (setting * 60), tol=1e-8, max_iter=1000)
    theirs.fit(standard(features), target)
    new, _ = blobs(50, seed=2, spread=2.5)
    expected = theirs.predict_proba(standard(new))
    np.testing.assert_allclose(softmax(ours.logits(new)), expected, atol=2e-3)


def test_discriminant_analysis_is_that_of_scikit_learn_also_for_two_classes() -> None:
    features, target = blobs(60, spread=2.5)
    for classes in (2, 3):
        rows = target < classes
        ours = CLASSIFIERS["lda"]().fit(features[rows], target[rows], classes, 0.0)
        standard = Standard.of(features[rows])
        theirs = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes)
        ).fit(standard(features[rows]), target[rows])
        new = features[rows] + np.float32(0.5)
        np.testing.assert_allclose(
            softmax(ours.logits(new)), theirs.predict_proba(standard(new)), atol=1e-4
        )


def test_centroid_decides_by_the_nearest_class_mean_of_standardised_features() -> None:
    features, target = blobs(30)
    fitted = CLASSIFIERS["centroid"]().fit(features, target, 3, 0.0)
    standard = Standard.of(features)
    means = np.stack([standard(features)[target == k].mean(axis=0) for k in range(3)])
    new, _ = blobs(60, seed=3, spread=3)
    distances = np.linalg.norm(standard(new)[:, None] - means, axis=2)
    assert (fitted.logits(new).argmax(axis=1) == distances.argmin(axis=1)).all()


def test_neighbours_vote_by_exponentials_of_their_cosines() -> None:
    features = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)  # mean 0, deviation 1/2
    fitted = CLASSIFIERS["knn"]().fit(features, np.array([0, 1, 2, 2]), 3, 2.0)
    assert isinstance(fitted, NearestPictures)
    angle = np.deg2rad(30)
    logits = fitted.logits(np.array([[np.cos(angle), np.sin(angle)]], np.float32))
    votes = np.exp(np.array([np.cos(angle), np.sin(angle)]) / 0.07)
    expected = [*(votes / votes.sum()), 0]
    np.testing.assert_allclose(softmax(logits)[0], expected, atol=1e-3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_without_pictures_is_never_decided(name: str) -> None:
    features, target = blobs(60)
    target = np.where(target == 2, 3, target)  # of four classes, number 2 has no picture
    fitted, _ = fit_classifier(name, features, target, np.arange(60) % 3, 4, seed=0)
    logits = fitted.logits(features)
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) != 2).all()


def test_settings_are_chosen_out_of_fold_on_some_classes_where_there_is_much_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from product_cls.probing import choose

    features, target = blobs(90)
    parts = np.arange(90) // 3 % 3
    sizes = []
    path = CLASSIFIERS["logistic"].path

    def watched(self: object, x: np.ndarray, y: np.ndarray, classes: int) -> object:
        sizes.append((len(x), classes))
        return path(self, x, y, classes)  # type: ignore[arg-type]

    monkeypatch.setattr(CLASSIFIERS["logistic"], "path", watched)
    monkeypatch.setattr(choose, "MOST_WORK", 90 * 6 * 3 * 4 / 9)
    fitted, _ = fit_classifier("logistic", features, target, parts, 3, seed=0)
    assert sizes == [(40, 2)] * 3  # two of the three classes, without the held-out third
    assert (fitted.logits(features).argmax(axis=1) == target).mean() > 0.95  # all three learned


def test_without_held_out_pictures_nothing_is_chosen() -> None:
    features, target = blobs(30)
    _, choice = fit_classifier("ridge", features, target, np.full(30, -1), 3, seed=0)
    assert (choice.temperature, choice.loss) == (1.0, None)


def test_the_temperature_that_fits_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    chances = softmax(logits)
    target = np.array([rng.choice(5, p=row) for row in chances])
    assert best_temperature(logits * 3, target) == pytest.approx(3, rel=0.1)


def test_a_linear_classifier_cools() -> None:
    linear = Linear(np.array([[2.0, 0.0]]), np.array([4.0]))
    assert linear.cooled(2).logits(np.ones((1, 2), np.float32)).tolist() == [[3.0]]
