"""Checks of voting weights."""

from collections.abc import Sequence

import numpy as np

from product_cls.core.errors import UserError


def check_weights(
    weights: Sequence[float] | np.ndarray | None, count: int, names: Sequence[str] = ()
) -> np.ndarray:
    """Check the weights of the members of a vote.

    Args:
        weights: ``[count]``, finite, 0 or more, one per member; None for equal weights.
        count: number of members.
        names: names of the members, for the message.

    Returns:
        The weights, float64 ``[count]``, not normalised.

    Raises:
        UserError: there are not ``count`` weights, one is negative or infinite, or all are 0.
    """
    if weights is None:
        return np.ones(count)
    if len(weights) != count:
        members = f" for {', '.join(names)}" if names else ""
        raise UserError(
            f"weights={[float(weight) for weight in weights]}; allowed: {count} numbers, one "
            f"each{members}."
        )
    values = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise UserError(f"weights={values.tolist()}; allowed: 0 or more, not all of them 0.")
    return values
