"""Milk cartons with a gable top."""

import numpy as np
from numpy.typing import NDArray

from product_cls.data.rendered.shapes.base import Floats, Panel, Shape

PAPER = 0.012  # visible thickness of the folded paper of roof and fin


class GableTop:
    """A square body with two roof slopes that meet in an upright fin.

    The upper parts of the other two sides are folded inwards. Each is a triangle from the body's
    edge to the middle of the ridge, so the roof slopes cover a square pyramid.
    """

    period = 180.0
    rounding = 0.012

    def __init__(self, width: float, height: float, roof: float, fin: float) -> None:
        """Args:
        width, height: of the whole carton; depth equals width.
        roof, fin: height of the slopes and of the fin above them.
        """
        self.width, self.height, self.fin, self.roof = width, height, fin, roof
        self.radius = width / 2 * 2**0.5
        self.ridge = height / 2 - fin
        self.eaves = self.ridge - roof
        slant = float(np.hypot(width / 2, roof))
        self.outward, self.upward = roof / slant, width / 2 / slant  # normal of a slope
        body = self.eaves + height / 2
        sides = ("front", "back", "left", "right")
        self.panels: tuple[Panel, ...] = (
            *(Panel(f"carton {name}", width, body, 0.15) for name in sides),
            Panel("carton roof front", width, slant, 0.15),
            Panel("carton roof back", width, slant, 0.15),
            Panel("carton gusset", width, slant, 0.1),
            Panel("carton fin", width, fin, 0.1),
        )

    def _above(self, from_axis: Floats, z: Floats) -> Floats:
        """Signed distance to the plane of a slope, at ``from_axis`` from the centre."""
        return (from_axis - np.float32(self.width / 2)) * np.float32(self.outward) + (
            z - np.float32(self.eaves)
        ) * np.float32(self.upward)

    def distance(self, points: Floats) -> Floats:
        x, y = np.abs(points[:2])
        z = points[2]
        half, r = np.float32(self.width / 2), np.float32(self.rounding)
        over_x, over_y = x - (half - r), y - (half - r)
        column = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
        column += np.minimum(np.maximum(over_x, over_y), 0) - r
        column = np.maximum(column, -z - np.float32(self.height / 2))
        slope, fold = self._above(y, z), self._above(x, z)
        # A smooth maximum (no steeper than its parts) rounds the edge under the roof.
        top = np.maximum(slope, fold)
        near = np.maximum(1 - np.abs(column - top) / np.float32(0.02), 0)
        core = np.maximum(column, top) + np.float32(0.005) * near * near
        sheet = np.maximum(np.abs(slope + np.float32(PAPER / 2)) - np.float32(PAPER / 2), column)
        sheet = np.maximum(sheet, np.float32(self.eaves - PAPER) - z)
        sheet = np.maximum(sheet, z - np.float32(self.ridge))
        middle = np.float32(self.ridge + self.fin / 2 - PAPER)
        fin = np.abs(z - middle) - np.float32(self.fin / 2 + PAPER)
        fin = np.maximum(np.maximum(fin, y - np.float32(PAPER)), x - half)
        result: Floats = np.minimum(np.minimum(core, sheet), fin)
        return result

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        x, y, z = points
        body = z <= self.eaves
        sideways = np.abs(x) > np.abs(y)
        outer = self._above(np.abs(y), z) > -PAPER / 4
        panel = np.where(
            body,
            np.where(sideways, np.where(x > 0, 3, 2), np.where(y > 0, 1, 0)),
            np.where(outer, np.where(y > 0, 5, 4), 6),
        )
        # The lowest part of the fin hides the fold between roof and fin.
        panel = np.where((z > self.ridge - PAPER) & (np.abs(y) < 1.3 * PAPER), 7, panel)
        # Everything visible under the roof, its underside included, uses the folded side's artwork.
        fold = np.where(x > 0, y, -y)
        facing = np.where(y > 0, -x, x)
        right: Floats = np.choose(panel, (x, -x, -y, y, x, -x, fold, facing))
        right /= np.float32(self.width)
        down = np.choose(
            panel,
            (
                *[(self.eaves - z) / np.float32(self.eaves + self.height / 2)] * 4,
                *[(self.ridge - z) / np.float32(self.roof)] * 3,
                (self.height / 2 - z) / np.float32(self.fin),
            ),
        )
        right += np.float32(0.5)
        return panel, right, np.clip(down, 0, 1).astype(np.float32)


CARTONS: dict[tuple[str, str, str], Shape] = {
    ("carton", "milk", "small"): GableTop(0.52, 0.88, 0.23, 0.07),
    ("carton", "milk", "regular"): GableTop(0.46, 1.06, 0.22, 0.075),
    ("carton", "milk", "large"): GableTop(0.42, 1.24, 0.22, 0.085),
}
