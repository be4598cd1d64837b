"""Weights in a soft vote: given ones checked, good ones found on held-out pictures.

Pure functions on arrays. Of each model only the probabilities ``truth`` ``[G, M]`` matter that it
gives to what is right: a vote whose weights sum to 1 gives ``weights @ truth`` to it, and its loss
is the mean of ``-log`` of that.
"""

from collections.abc import Callable

import numpy as np

FLOOR = 1e-7  # of probabilities, so that one certain mistake is not an infinite loss


STEPS = 100  # of greedy selection: weights are multiples of about a hundredth


SAME = 1e-12  # losses nearer than this are equal


PARTS = 5  # that held-out pictures are divided into where their folds are not to be told apart


def log_loss(truth: np.ndarray, weights: np.ndarray) -> float:
    """Mean of ``-log`` of the probability that the vote gives to what is right.

    Args:
        truth: ``[G, M]``, probabilities that G models give to what is right of M pictures.
        weights: ``[G]``, 0 or more; their sum does not matter.
    """
    voted = weights @ truth / weights.sum()
    return float(-np.log(np.maximum(voted, FLOOR)).mean())


def greedy_weights(truth: np.ndarray, *, steps: int = STEPS) -> np.ndarray:
    """Ensemble selection with replacement (Caruana et al. 2004), after sorted initialisation.

    Begins with the best k models by their own loss, for the k whose vote is best, then adds the
    model that makes the vote best, again and again; the best vote on the way is kept. Of models
    that are equally good to add, the one that counts least so far is added, so that equal models
    get equal weights. The paper's bags of models are left out: it draws them from thousands.

    Args:
        truth: ``[G, M]``, see ``log_loss``.
        steps: additions after the beginning.

    Returns:
        ``[G]``, 0 or more, of sum 1.
    """
    models = len(truth)
    order = np.argsort([log_loss(one[None], np.ones(1)) for one in truth], kind="stable")
    begun = np.tril(np.ones((models, models)))[:, np.argsort(order)]  # the best 1, 2, ..., G
    losses = np.array([log_loss(truth, counts) for counts in begun])
    counts = begun[np.flatnonzero(losses <= losses.min() + SAME)[-1]]
    kept, least = counts.copy(), log_loss(truth, counts)
    total = counts @ truth
    for _ in range(steps):
        voted = np.maximum((total + truth) / (counts.sum() + 1), FLOOR)
        losses = -np.log(voted).mean(axis=1)
        equal = np.flatnonzero(losses <= losses.min() + SAME)
        added = equal[counts[equal].argmin()]
        counts[added] += 1
        total += truth[added]
        if losses[added] < least - SAME:
            kept, least = counts.copy(), float(losses[added])
    return kept / kept.sum()


def optimised_weights(truth: np.ndarray) -> np.ndarray:
    """The weights of least log loss, 0 or more and of sum 1, by SLSQP.

    The loss is convex in the weights, so there is one best value, wherever the search begins; it
    begins with equal weights, where models that are all the same stay.

    Args:
        truth: ``[G, M]``, see ``log_loss``.

    Returns:
        ``[G]``; equal ones where the search finds nothing better.
    """
    from scipy.optimize import minimize  # training jobs need not wait for it

    models = len(truth)
    floored = np.maximum(truth, FLOOR)

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        # Where a step leaves the allowed weights for a moment, the vote may be 0.
        voted = np.maximum(weights @ floored, FLOOR)
        return float(-np.log(voted).mean()), -(floored / voted).mean(axis=1)

    equal = np.full(models, 1 / models)
    sum_is_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    found = minimize(
        loss_and_slope,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * models,
        constraints=[sum_is_one],
        options={"ftol": 1e-10, "maxiter": 500},
    ).x
    found = np.where(found < 1e-6, 0, found)
    better = log_loss(truth, found) < log_loss(truth, equal) - SAME
    return found / found.sum() if better else equal


TUNERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "greedy": greedy_weights,
    "optimised": optimised_weights,
}


def random_parts(count: int) -> np.ndarray:
    """Which of ``PARTS`` parts (fewer of fewer pictures) each picture is in, int ``[count]``."""
    return np.random.default_rng(0).permutation(count) % max(min(PARTS, count), 1)


def cross_fit(
    truth: np.ndarray, fold: np.ndarray, folds: int, tune: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """For each fold the weights found without its pictures, by which it can be judged honestly.

    Args:
        truth: ``[G, M]``, see ``log_loss``.
        fold: int ``[M]``, 0 to F - 1, two of them at least once.
        folds: F, 2 or more.
        tune: one of ``TUNERS``.

    Returns:
        ``[F, G]``.
    """
    return np.stack([tune(truth[:, fold != k]) for k in range(folds)])
