"""Names of views for test-time augmentation; imports no torch, so that they are checked at once."""

import re
from collections.abc import Sequence

from product_cls.core.errors import UserError
from product_cls.core.picture_sides import SMALLEST

NAMES = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270", "five_crop")
SIZE = re.compile(r"size_(\d{1,4})", re.ASCII)


def steps_of(name: object) -> list[str]:
    """The steps that a view's name joins: ``hflip+size_128`` has two.

    Raises:
        UserError: one of them is unknown.
    """
    steps = str(name).split("+")
    for step in steps:
        match = SIZE.fullmatch(step)
        if step not in NAMES and not (match and int(match[1]) >= SMALLEST):
            raise UserError(
                f"tta names '{step}'; allowed: {', '.join(NAMES)}, size_<pixels, {SMALLEST} or "
                f"more>, and several joined by +."
            )
    return steps


def check_view_names(names: Sequence[object]) -> None:
    """Check the names of the views.

    Raises:
        UserError: no names, a repeated name, or an unknown name.
    """
    if not names:
        raise UserError("tta is empty; tta=[identity] predicts the picture as it is.")
    texts = [str(name) for name in names]
    if len(set(texts)) < len(texts):
        raise UserError(f"tta names a view twice: {', '.join(texts)}.")
    for text in texts:
        steps_of(text)
