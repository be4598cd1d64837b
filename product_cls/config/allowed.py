"""The values that a setting allows, as a test and in words."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Allowed(NamedTuple):
    """The values that are allowed: as a test, and in words."""

    holds: Callable[[Any], bool]
    words: str


def whole(low: int | None = None, *, null: bool = False, unit: str = "") -> Allowed:
    """Whole numbers of at least ``low``, if it is set; with ``null``, also null."""
    words = f"a whole number{unit}"
    words += "" if low is None else f", {low} or more"

    def holds(x: Any) -> bool:
        return (null and x is None) or (type(x) is int and (low is None or x >= low))

    return Allowed(holds, words + (", or null" if null else ""))


def number(above: float | None = None, words: str = "a number") -> Allowed:
    """Finite numbers, above ``above`` if it is set."""
    words += "" if above is None else f" above {above:g}"

    def holds(x: Any) -> bool:
        return type(x) in (int, float) and math.isfinite(x) and (above is None or x > above)

    return Allowed(holds, words)


def only(*values: Any, why: str = "") -> Allowed:
    """Some values, and why there are no others."""

    # By type, too, because True equals 1.
    words = ", ".join("null" if x is None else str(x).lower() for x in values)
    return Allowed(
        lambda x: any(type(x) is type(value) and x == value for value in values),
        f"{words} ({why})" if why else words,
    )


FLAG = Allowed(lambda x: isinstance(x, bool), "true or false")
