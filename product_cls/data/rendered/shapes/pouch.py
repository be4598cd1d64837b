"""Film bags: pillow bags sealed at both ends, and standing pouches with a gusset."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from product_cls.data.rendered.shapes.base import Floats, Panel, Shape

FILM = 0.007  # half the thickness of a seal
PILLOW_SEAL = 0.065  # height of each seal of a pillow bag, as a share of the bag's height
STANDING_SEAL = 0.1  # height of a standing pouch's seal, as a share of the pouch's height
ZIP = 0.155  # distance of a standing pouch's zip from the top, as a share of the pouch's height


def _lens(x: Floats, y: Floats, half_width: Floats, half_depth: Floats) -> Floats:
    """Distance [N] to a lens of two arcs with tips at x = +-half_width; x, y >= 0."""
    offset = (half_width * half_width - half_depth * half_depth) / (2 * half_depth)
    radius = half_depth + offset  # the arc's centre is at (0, -offset)
    # A quotient, because for flat lenses the radius is large and a difference loses precision.
    excess = x * x + y * y - half_width * half_width + 2 * y * offset
    arc = excess / (np.hypot(x, y + offset) + radius)
    beyond_tip = x * offset > half_width * (y + offset)
    result: Floats = np.where(beyond_tip, np.hypot(x - half_width, y), arc)
    return result


def _bulge(x: Floats, y: Floats, half_width: Floats, half_depth: Floats, round_: float) -> Floats:
    """Distance [N] to a lens with rounded tips; ``round_`` is the rounded share of its depth."""
    rounding = 0.6 * FILM + round_ * (half_depth - FILM)
    return _lens(x, y, half_width - rounding, half_depth - rounding) - rounding


def _face(points: Floats, width: float, height: float) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Panel (front 0, back 1), u and v of points [3, N]."""
    x, y, z = points
    back = (y > 0).astype(np.intp)
    u = np.where(back, -x, x) / np.float32(width) + np.float32(0.5)
    return back, u, np.float32(0.5) - z / np.float32(height)


class PillowBag:
    """An inflated bag with flat, pinked seals at top and bottom."""

    period = 180.0
    teeth: ClassVar[tuple[float, float]] = (0.028, 0.012)  # width and depth

    def __init__(self, width: float, height: float, depth: float) -> None:
        self.width, self.height, self.depth = width, height, depth
        self.radius = width / 2
        self.full = height * (0.5 - PILLOW_SEAL)  # half the height of the filled part
        # Depth decreases from the middle to the seals, where it is steepest: see `distance`.
        self.slope = float(np.hypot(1, 1.2 * 2.9 * depth / 2 / self.full))
        self.panels: tuple[Panel, ...] = (
            Panel("pillow front", width, height, 0.5),
            Panel("pillow back", width, height, 0.5),
        )

    def distance(self, points: Floats) -> Floats:
        x, y, up = np.abs(points)
        along = up / np.float32(self.full)
        along *= along
        filled = np.maximum(1 - along * (np.float32(0.55) + np.float32(0.45) * along), 0)
        # Film bends in one direction only, so the bag is narrower where it is thicker.
        half_width = np.float32(self.width / 2) * (1 - np.float32(0.07) * filled)
        # Pleats start at the seals and look the same from the front and the back.
        right = np.where(points[1] > 0, -points[0], points[0])
        inner = np.maximum(1 - (x / half_width) ** 2, 0)
        pleats = np.sin(27 * right + 3 * np.sin(9 * right) + 1.3 * np.sign(points[2]))
        pleats *= np.float32(0.05 * self.depth) * inner * filled * along * along
        half_depth = FILM + np.float32(self.depth / 2 - FILM) * filled
        side = _bulge(x, y, half_width, half_depth, 0.38)
        width, tooth = self.teeth
        jag = np.abs((x / width) % 1 - np.float32(0.5)) * np.float32(2 * tooth)
        end = (up + jag - np.float32(self.height / 2)) / np.hypot(1, 2 * tooth / width)
        result: Floats = np.maximum((side - pleats) / self.slope, end)
        return result.astype(np.float32, copy=False)

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        return _face(points, self.width, self.height)


class StandingPouch:
    """A wedge: a flat top seal with tear notches and a hang hole, and a deep foot."""

    period = 180.0

    def __init__(self, width: float, height: float, depth: float) -> None:
        self.width, self.height, self.depth = width, height, depth
        self.radius = float(np.hypot(width, 0.3 * depth)) / 2
        self.seal = height * (0.5 - STANDING_SEAL)  # z of its lower edge
        self.notch = height * (0.5 - 0.8 * STANDING_SEAL)
        self.zip = height * (0.5 - ZIP)
        self.hole = height * (0.5 - 0.45 * STANDING_SEAL), 0.24 * height * STANDING_SEAL
        self.slope = float(np.hypot(1, 0.85 * depth / (self.seal + height / 2) + 0.2))
        self.panels: tuple[Panel, ...] = (
            Panel("standing front", width, height, 0.35),
            Panel("standing back", width, height, 0.35),
        )

    def distance(self, points: Floats) -> Floats:
        x, y = np.abs(points[:2])
        z = points[2]
        down = np.clip((np.float32(self.seal) - z) / np.float32(self.seal + self.height / 2), 0, 1)
        deep = down * (np.float32(1.7) - np.float32(0.7) * down)
        half_width = np.float32(self.width / 2) * (1 - np.float32(0.05) * down * down)
        half_depth = FILM + np.float32(self.depth / 2 - FILM) * deep
        side = _bulge(x, y, half_width, half_depth, 0.3)
        side -= np.float32(0.005) * np.exp(-(((z - np.float32(self.zip)) / np.float32(0.012)) ** 2))
        side /= np.float32(self.slope)
        # A smooth maximum (no steeper than its parts) rounds the rim of the gusset.
        foot = -z - np.float32(self.height / 2)
        near = np.maximum(1 - np.abs(side - foot) / np.float32(0.04), 0)
        solid = np.maximum(side, foot) + np.float32(0.01) * near * near
        # Round upper corners, as for a box with cut corners.
        across = x - np.float32(self.width / 2 - 0.04)
        above = z - np.float32(self.height / 2 - 0.04)
        corner = np.hypot(np.maximum(across, 0), np.maximum(above, 0)) - np.float32(0.04)
        cut = (across - np.float32(0.022) - np.abs(z - np.float32(self.notch))) / np.float32(1.42)
        place, size = self.hole
        hole = size - np.hypot(x, z - np.float32(place))
        result: Floats = np.maximum(np.maximum(solid, corner), np.maximum(cut, hole))
        return result.astype(np.float32, copy=False)

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        return _face(points, self.width, self.height)


POUCHES: dict[tuple[str, str, str], Shape] = {
    ("pouch", "pillow", "small"): PillowBag(0.80, 0.78, 0.34),
    ("pouch", "pillow", "regular"): PillowBag(0.74, 1.0, 0.30),
    ("pouch", "pillow", "large"): PillowBag(0.68, 1.16, 0.27),
    ("pouch", "standing", "small"): StandingPouch(0.74, 0.78, 0.34),
    ("pouch", "standing", "regular"): StandingPouch(0.70, 1.0, 0.32),
    ("pouch", "standing", "large"): StandingPouch(0.64, 1.16, 0.28),
}
