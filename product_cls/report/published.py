"""Published results that measured ones are shown beside."""

from collections.abc import Mapping

from product_cls.core.errors import UserError

# Recipe A: EfficientNet, mixup and cutmix; leaderboard accuracy in per cent when steps are left
# out, one run each. Keys are what `exclude` holds, in any order.
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
# Of the same source, in points: what the vote adds to one fold, and test-time augmentation.
VOTE_GAIN, TTA_GAIN = (2.0, 3.0), 0.02

TABLES = {"recipe_a": RECIPE_A}


def published_table(name: str) -> Mapping[frozenset[str], float]:
    """A table by name; ``none`` is an empty one.

    Raises:
        UserError: there is no such table.
    """
    if name == "none":
        return {}
    if name not in TABLES:
        raise UserError(f"published={name}; allowed: {', '.join([*TABLES, 'none'])}.")
    return TABLES[name]
