"""Published results, shown beside measured ones."""

from collections.abc import Mapping

from product_cls.core.errors import UserError

# Recipe A (EfficientNet, mixup and cutmix) with steps left out: leaderboard accuracy in per cent,
# one run each. Keys are the names in `exclude`, in any order.
RECIPE_A: Mapping[frozenset[str], float] = {
    frozenset(): 91.457,
    frozenset({"mixup", "cutmix"}): 81.510,
    frozenset({"cutmix"}): 87.225,
    frozenset({"rotate"}): 90.393,
    frozenset({"mixup"}): 90.707,
    frozenset({"grid_distortion"}): 90.935,
    frozenset({"blur"}): 91.011,
    frozenset({"horizontal_flip"}): 91.024,
    frozenset({"clahe"}): 91.114,
    frozenset({"shift_scale_rotate"}): 91.294,
}

# Recipe A by network: vote of five folds with test-time augmentation, Adam; leaderboard accuracy in
# per cent. Keys are names of `model`.
MODELS: Mapping[str, float] = {"b0": 94.233, "b1": 94.404, "b2": 94.603}
# From the same source, in points: gain of the vote over one fold, gain of test-time augmentation.
VOTE_GAIN, TTA_GAIN = (2.0, 3.0), 0.02

TABLES = {"recipe_a": RECIPE_A}


def published_table(name: str) -> Mapping[frozenset[str], float]:
    """A published table by name, accuracy in per cent by excluded steps; ``none`` is empty.

    Raises:
        UserError: an unknown name.
    """
    if name == "none":
        return {}
    if name not in TABLES:
        raise UserError(f"published={name}; allowed: {', '.join([*TABLES, 'none'])}.")
    return TABLES[name]
