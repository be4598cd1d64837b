"""Boxes with six flat sides."""

import numpy as np
from numpy.typing import NDArray

from product_cls.data.rendered.shapes.base import Floats, Panel, Shape


class Box:
    """A box of width x height x depth with slightly rounded edges."""

    period = 180.0
    rounding = 0.012

    def __init__(self, width: float, height: float, depth: float) -> None:
        self.height = height
        self.radius = float(np.hypot(width, depth)) / 2
        self.half = np.array([[width], [depth], [height]], np.float32) / 2
        sides = (("front", width), ("back", width), ("left", depth), ("right", depth))
        self.panels: tuple[Panel, ...] = (
            *(Panel(name, side, height, 0.18) for name, side in sides),
            Panel("top", width, depth, 0.18),
            Panel("bottom", width, depth, 0.18),
        )

    def distance(self, points: Floats) -> Floats:
        beyond = np.abs(points)
        beyond -= self.half - np.float32(self.rounding)
        inside = np.minimum(np.maximum(np.maximum(beyond[0], beyond[1]), beyond[2]), 0)
        np.maximum(beyond, 0, out=beyond)
        beyond *= beyond
        result: Floats = np.sqrt(beyond[0] + beyond[1] + beyond[2]) + inside
        return result - np.float32(self.rounding)

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        # A point belongs to the face with the nearest plane; rounded edges split at 45 degrees.
        side, depth, height = np.abs(points) - self.half
        sideways = (side > depth) & (side > height)
        upright = ~sideways & (height > depth)
        x, y, z = points / (2 * self.half)  # each in [-0.5, 0.5]
        panel = np.where(
            sideways,
            np.where(x > 0, 3, 2),
            np.where(upright, np.where(z > 0, 4, 5), np.where(y > 0, 1, 0)),
        )
        # Coordinate along each face, to the right as seen from outside.
        right = np.choose(panel, (x, -x, -y, y, x, x))
        down = np.choose(panel, (-z, -z, -z, -z, -y, y))
        return panel, right + np.float32(0.5), down + np.float32(0.5)


BOXES: dict[tuple[str, str, str], Shape] = {
    ("box", "tall", "small"): Box(0.74, 0.82, 0.26),
    ("box", "tall", "regular"): Box(0.70, 1.0, 0.24),
    ("box", "tall", "large"): Box(0.64, 1.12, 0.44),
    ("box", "wide", "small"): Box(0.80, 0.66, 0.20),
    ("box", "wide", "regular"): Box(1.0, 0.66, 0.30),
    ("box", "wide", "large"): Box(1.12, 0.62, 0.42),
}
