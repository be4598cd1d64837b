"""Weights in a vote, checked."""

from collections.abc import Sequence

import numpy as np

from product_cls.core.errors import UserError


def check_weights(
    weights: Sequence[float] | np.ndarray | None, runs: int, names: Sequence[str] = ()
) -> np.ndarray:
    """Weights of runs as given, float64 ``[runs]``; equal ones where None.

    Args:
        weights: one a run, 0 or more.
        runs: how many there are.
        names: theirs, for the message.

    Raises:
        UserError: another number of them, negative or infinite ones, or nothing but 0.
    """
    if weights is None:
        return np.ones(runs)
    if len(weights) != runs:
        what = f": {', '.join(names)}" if names else "; give one for each"
        raise UserError(f"{len(weights)} weights for {runs} runs{what}.")
    chosen = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(chosen).all() or (chosen < 0).any() or not chosen.any():
        raise UserError(f"weights={chosen.tolist()}; allowed: 0 or more, not all of them 0.")
    return chosen
