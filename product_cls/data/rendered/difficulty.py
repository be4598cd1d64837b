"""How hard a rendered set is: a few knobs, and presets of them."""

from dataclasses import dataclass, replace

from product_cls.core.errors import UserError
from product_cls.data.synthetic_sets import in_range


@dataclass(frozen=True)
class Knobs:
    """What makes rendered products hard to tell apart when seen from a new pitch.

    Args:
        rolls: turntable positions a pitch, 1 to 360; fewer views leave more to generalisation.
        twins: products that share one design, 1 to 24 (other flavours, sizes, packages).
        items: share of the pictures that show two or three items, 0 to 1.
        light: strength of the lamps' direction, colour and glare, and of differences of exposure
            and white balance between pictures, 0 (even light) to 2.
        jitter: differences of distance and centring between pictures, 0 (none) to 1.5; beyond 1.2 a
            product may leave the frame by a few per cent of its side.
    """

    rolls: int
    twins: int
    items: float
    light: float
    jitter: float


LIMITS = {"rolls": (1, 360), "twins": (1, 24), "items": (0, 1), "light": (0, 2), "jitter": (0, 1.5)}
PRESETS = {
    "easy": Knobs(rolls=24, twins=2, items=0.0, light=0.5, jitter=0.5),
    "standard": Knobs(rolls=24, twins=4, items=1 / 3, light=1.0, jitter=1.0),
    "hard": Knobs(rolls=6, twins=8, items=0.5, light=1.5, jitter=1.5),
}


def choose_knobs(difficulty: str, **changes: float | None) -> Knobs:
    """A preset with some knobs turned; None leaves a knob where the preset has it.

    Raises:
        UserError: an unknown preset, or a knob out of its range.
    """
    if difficulty not in PRESETS:
        raise UserError(
            f"difficulty={difficulty} is unknown: it must be one of {', '.join(PRESETS)}."
        )
    given = {name: value for name, value in changes.items() if value is not None}
    for name, value in given.items():
        in_range(name, value, *LIMITS[name], whole=name in ("rolls", "twins"))
    return replace(PRESETS[difficulty], **given)  # type: ignore[arg-type]
