"""Weights of models in a soft vote, tuned on held-out pictures.

Pure functions on arrays. They need only ``truth`` ``[G, M]``, the probability that each of G models
gives to each of M true labels. With weights that sum to 1, the vote's probabilities of these labels
are ``weights @ truth``, and its log loss is the mean of ``-log(weights @ truth)``.
"""

from collections.abc import Callable

import numpy as np

FLOOR = 1e-7  # lower bound of probabilities, so that one certain mistake has a finite loss
STEPS = 100  # of greedy selection, so weights are multiples of about 0.01
SAME = 1e-12  # losses closer than this count as equal
PARTS = 5  # random parts of held-out pictures that all belong to one fold


def log_loss(truth: np.ndarray, weights: np.ndarray) -> float:
    """Mean of ``-log`` of the probability that the vote gives to each true label.

    Args:
        truth: float64 ``[G, M]``, probabilities that G models give to M true labels.
        weights: float ``[G]``, 0 or more; normalised to a sum of 1.
    """
    voted = weights @ truth / weights.sum()
    return float(-np.log(np.maximum(voted, FLOOR)).mean())


def greedy_weights(truth: np.ndarray, *, steps: int = STEPS) -> np.ndarray:
    """Ensemble selection with replacement and sorted initialisation (Caruana et al. 2004).

    Starts with the k best single models, for the k with the best vote. Each step adds the model
    that improves the vote most, and the best vote of all steps is kept. Among equally good models,
    the one with the lowest weight so far is added, so that equal models get equal weights. The
    paper also draws bags of models, which pays off for thousands of models only.

    Args:
        truth: float64 ``[G, M]``, see ``log_loss``.
        steps: additions after initialisation.

    Returns:
        float64 ``[G]``, 0 or more, with sum 1.
    """
    models = len(truth)
    order = np.argsort([log_loss(model[None], np.ones(1)) for model in truth], kind="stable")
    best_first = np.tril(np.ones((models, models)))[:, np.argsort(order)]  # the best 1, 2, ..., G
    losses = np.array([log_loss(truth, counts) for counts in best_first])
    counts = best_first[np.flatnonzero(losses <= losses.min() + SAME)[-1]]
    best_counts, least = counts.copy(), log_loss(truth, counts)
    total = counts @ truth
    for _ in range(steps):
        voted = np.maximum((total + truth) / (counts.sum() + 1), FLOOR)
        losses = -np.log(voted).mean(axis=1)
        equal = np.flatnonzero(losses <= losses.min() + SAME)
        added = equal[counts[equal].argmin()]
        counts[added] += 1
        total += truth[added]
        if losses[added] < least - SAME:
            best_counts, least = counts.copy(), float(losses[added])
    return best_counts / best_counts.sum()


def optimised_weights(truth: np.ndarray) -> np.ndarray:
    """The weights with the least log loss, by SLSQP.

    The loss is convex in the weights, so its minimum does not depend on the start. The search
    starts from equal weights, and keeps them if all models are the same.

    Args:
        truth: float64 ``[G, M]``, see ``log_loss``.

    Returns:
        float64 ``[G]``, 0 or more, with sum 1; equal weights if the search finds nothing better.
    """
    from scipy.optimize import minimize  # imported here, because training jobs do not need it

    models = len(truth)
    floored = np.maximum(truth, FLOOR)

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        # An intermediate step may leave the bounds, where the vote can be 0 or less.
        voted = np.maximum(weights @ floored, FLOOR)
        return float(-np.log(voted).mean()), -(floored / voted).mean(axis=1)

    equal = np.full(models, 1 / models)
    sum_is_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    weights = minimize(
        loss_and_slope,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * models,
        constraints=[sum_is_one],
        options={"ftol": 1e-10, "maxiter": 500},
    ).x
    weights = np.where(weights < 1e-6, 0, weights)
    better = log_loss(truth, weights) < log_loss(truth, equal) - SAME
    return weights / weights.sum() if better else equal


TUNERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "greedy": greedy_weights,
    "optimised": optimised_weights,
}


def random_parts(count: int) -> np.ndarray:
    """A random part for each picture, int64 ``[count]`` in [0, ``PARTS``)."""
    return np.random.default_rng(0).permutation(count) % max(min(PARTS, count), 1)


def cross_fit(
    truth: np.ndarray, fold: np.ndarray, folds: int, tune: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Weights for each fold, tuned on the other folds, so that evaluating the fold is unbiased.

    Args:
        truth: float64 ``[G, M]``, see ``log_loss``.
        fold: int ``[M]``, 0 to F - 1; at least two folds occur.
        folds: F, 2 or more.
        tune: one of ``TUNERS``.

    Returns:
        float64 ``[F, G]``.
    """
    return np.stack([tune(truth[:, fold != k]) for k in range(folds)])
