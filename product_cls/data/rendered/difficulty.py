"""Difficulty of a rendered set: knobs and presets."""

from dataclasses import dataclass, replace

from product_cls.data.synthetic_sets import in_range


@dataclass(frozen=True)
class Knobs:
    """Settings that control how hard products are to tell apart from a new pitch.

    Args:
        rolls: turntable positions per pitch, 1 to 360; fewer views demand more generalisation.
        twins: products that share one design, 1 to 24 (differing in flavour, size or package).
        items: share of pictures that show two or three items, in [0, 1].
        light: strength of directional light, colour casts and glare, and of exposure and white
            balance differences between pictures, 0 (even light) to 2.
        jitter: variation of distance and centring between pictures, 0 (none) to 1.5; above 1.2 a
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
    """A preset with some knobs replaced; None keeps the preset's value.

    Raises:
        ValueError: the preset is unknown, or a knob is out of range.
    """
    if difficulty not in PRESETS:
        raise ValueError(f"difficulty={difficulty}; allowed: {', '.join(PRESETS)}.")
    replaced = {name: value for name, value in changes.items() if value is not None}
    for name, value in replaced.items():
        in_range(name, value, *LIMITS[name], whole=name in ("rolls", "twins"))
    return replace(PRESETS[difficulty], **replaced)  # type: ignore[arg-type]
