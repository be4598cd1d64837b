"""Solids, where the camera and the lamps stand, and how rays meet solids.

Lengths are in product heights (about 1), angles in degrees. The frame of a product has its origin
at the product's centre: x to the right and z up as seen by the camera at roll 0, y away from it, so
that the front looks towards -y. The camera moves in the plane x = 0 of the room; the product turns
about z, and a positive roll takes its front to the viewer's right.

A new solid needs a class with the members of `Shape`, an entry in `FORMS`, and artwork for panels
of a new name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SUPERSAMPLE = 2  # rays along each side of an output pixel; averaged, they smooth edges and print
CANVAS = 2.28  # side of the traced square in output sides: SUPERSAMPLE plus room for the jitter
FIELD_OF_VIEW = 28.0  # degrees, whole angle: a short telephoto lens, as in product photography
FILL = 0.86  # largest share of the frame's side that a product takes over all rolls and PITCHES
PITCHES = (0.0, 30.0, 60.0)
MARGIN = 2  # texels around each panel of the atlas, so that interpolation never reads a neighbour


@dataclass(frozen=True)
class Panel:
    """A flat piece of artwork of ``width`` x ``height``; ``gloss`` in [0, 1] is its shine."""

    name: str
    width: float
    height: float
    gloss: float


class Shape(Protocol):
    """A solid around the origin, described by its signed distance and its panels of artwork."""

    panels: tuple[Panel, ...]
    height: float  # along z
    radius: float  # of the smallest cylinder about z that holds it
    period: float  # smallest roll, in degrees, that maps the bare solid onto itself; 0: any roll

    def __hash__(self) -> int: ...

    def distance(self, points: Floats) -> Floats:
        """Signed distance (a lower bound outside is enough) of points [3, N] -> [N]."""

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Panel index, u and v in [0, 1] (u to the right, v down) of surface points [3, N]."""


class Box:
    """A carton of width x height x depth with slightly rounded edges."""

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
        # The face is the one whose plane is nearest: on a rounded edge that splits at 45 degrees.
        side, depth, height = np.abs(points) - self.half
        sideways = (side > depth) & (side > height)
        upright = ~sideways & (height > depth)
        x, y, z = points / (2 * self.half)  # each in [-0.5, 0.5]
        panel = np.where(
            sideways,
            np.where(x > 0, 3, 2),
            np.where(upright, np.where(z > 0, 4, 5), np.where(y > 0, 1, 0)),
        )
        # Along each face, to the right for someone who looks at it.
        right = np.choose(panel, (x, -x, -y, y, x, x))
        down = np.choose(panel, (-z, -z, -z, -z, -y, y))
        return panel, right + np.float32(0.5), down + np.float32(0.5)


class Can:
    """A turned solid: an outline in (distance from the axis, z), a wrapped label and metal ends."""

    period = 0.0

    def __init__(
        self,
        radius: float,
        height: float,
        *,
        neck: float,
        shoulder: float,
        foot: float,
        rim: float = 0.018,
        recess: float = 0.03,
    ) -> None:
        """Args:
        radius, height: of the whole can.
        neck: radius of the lid's rim.
        shoulder, foot: heights of the tapered bare metal above and below the label.
        rim: width of the rim.
        recess: depth of the lid below the rim.
        """
        top, bottom = height / 2, -height / 2
        self.height, self.radius = height, max(radius, neck)
        self.label_top, self.label_bottom = top - shoulder, bottom + foot
        self.inner = neck - rim
        self.outline = np.array(
            [
                (0, bottom),
                (neck, bottom),
                (radius, self.label_bottom),
                (radius, self.label_top),
                (neck, top - rim),
                (neck, top),
                (self.inner, top),
                (self.inner, top - recess),
                (0, top - recess),
            ],
            np.float32,
        )
        self.panels: tuple[Panel, ...] = (
            Panel("label", 2 * np.pi * radius, self.label_top - self.label_bottom, 0.55),
            Panel("lid", 2 * self.inner, 2 * self.inner, 0.8),
            Panel("metal", 0.4, 0.1, 0.8),
        )

    def distance(self, points: Floats) -> Floats:
        # Distance to a polygon, sides in order and inside by crossings (Quilez, "2D distance
        # functions"); the axis itself is no side, but nothing outside is nearer to it.
        r, z = np.hypot(points[0], points[1]), points[2]
        nearest = np.full(r.shape, np.inf, np.float32)
        inside = np.zeros(r.shape, bool)
        for (r0, z0), (r1, z1) in pairwise(self.outline):
            dr, dz = r1 - r0, z1 - z0
            along = np.clip(((r - r0) * dr + (z - z0) * dz) / (dr * dr + dz * dz), 0, 1)
            gap = (r - r0 - along * dr) ** 2 + (z - z0 - along * dz) ** 2
            np.minimum(nearest, gap, out=nearest)
            if dz:
                crossed = ((z0 <= z) != (z1 <= z)) & (r < r0 + (z - z0) * dr / dz)
                inside ^= crossed
        result: Floats = np.sqrt(nearest)
        return np.where(inside, -result, result)

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        x, y, z = points
        lid = (z > 0) & (x * x + y * y < (self.inner + 2e-3) ** 2)
        printed = (z <= self.label_top) & (z >= self.label_bottom)
        panel = np.where(lid, 1, np.where(printed, 0, 2))
        turn = np.arctan2(x, -y) / np.float32(2 * np.pi) + np.float32(0.5)  # front at u = 0.5
        down = (self.label_top - z) / np.float32(self.label_top - self.label_bottom)
        width = np.float32(2 * self.inner)
        u = np.choose(panel, (turn, x / width + np.float32(0.5), turn))
        v = np.choose(panel, (down, np.float32(0.5) - y / width, np.abs(down) % 1))
        return panel, u, v


FORMS: dict[tuple[str, str], Shape] = {  # (shape, form) of a product, see catalogue.py
    ("box", "tall"): Box(0.70, 1.0, 0.24),
    ("box", "wide"): Box(1.0, 0.66, 0.30),
    ("can", "drink"): Can(0.285, 1.0, neck=0.235, shoulder=0.09, foot=0.06),
    ("can", "food"): Can(0.40, 0.86, neck=0.40, shoulder=0.03, foot=0.03),
}


def camera_distance(shape: Shape) -> float:
    """Distance from the camera to the product's centre: one for all poses of a shape, such that the
    cylinder around it takes `FILL` of the frame where it looks largest."""
    angle = np.linspace(0, 2 * np.pi, 64)
    x = np.tile(shape.radius * np.sin(angle), 2)
    y = np.tile(shape.radius * np.cos(angle), 2)
    z = np.repeat((shape.height / 2, -shape.height / 2), 64)
    needed = 0.0
    for pitch in np.radians(PITCHES):
        up = y * np.sin(pitch) + z * np.cos(pitch)
        nearer = z * np.sin(pitch) - y * np.cos(pitch)
        edge = FILL * np.tan(np.radians(FIELD_OF_VIEW / 2))
        needed = max(needed, float((np.maximum(np.abs(x), np.abs(up)) / edge + nearer).max()))
    return needed


def focal_length(size: int) -> float:
    """In rays, for output pictures of ``size`` pixels a side."""
    return SUPERSAMPLE * size / 2 / float(np.tan(np.radians(FIELD_OF_VIEW / 2)))


def texel_density(shape: Shape, size: int) -> float:
    """Texels a unit of length at which the nearest artwork has about one texel a ray."""
    return focal_length(size) / (camera_distance(shape) - shape.radius)


def atlas_offsets(shape: Shape, density: float) -> list[tuple[int, int, int]]:
    """Left edge, width and height in texels of each panel; the panels stand in one row."""
    placed, left = [], MARGIN
    for panel in shape.panels:
        width, height = round(panel.width * density), round(panel.height * density)
        placed.append((left, max(width, 2), max(height, 2)))
        left += max(width, 2) + 2 * MARGIN
    return placed


def turn(points: Floats, roll: float) -> Floats:
    """Turn points [3, N] about the vertical axis."""
    if roll == 0:
        return points
    sin, cos = np.float32(np.sin(np.radians(roll))), np.float32(np.cos(np.radians(roll)))
    return np.stack(
        [cos * points[0] - sin * points[1], sin * points[0] + cos * points[1], points[2]]
    )


def march(
    distance: Callable[[Floats], Floats],
    camera: Floats,
    directions: Floats,
    start: Floats,
    reach: float,
    spread: float,
) -> Floats:
    """Sphere tracing (Hart 1996): how far along each ray the solid is met; ``reach`` where not.

    With ``spread`` > 0 a ray stands for the cone of that half angle around it, and the answer is
    how far the whole cone is known to be free.
    """
    found = np.full(directions.shape[1], reach, np.float32)
    left = np.arange(directions.shape[1])
    travelled = start.copy()
    for _ in range(96):
        step = distance(camera + travelled * directions)
        close = step < np.maximum(np.float32(6e-4), np.float32(spread) * travelled)
        found[left[close]] = travelled[close]
        travelled += step
        going = np.flatnonzero(~close & (travelled < reach))
        if going.size == 0:
            break
        if going.size < 0.9 * left.size:  # copying the rest costs about as much as a step
            left, travelled = left[going], travelled[going]
            directions = directions.take(going, 1)
    return found


def surface_normals(distance: Callable[[Floats], Floats], points: Floats) -> Floats:
    """Unit normals [3, N] from differences of the distance at a tetrahedron's corners."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)[:, :, None]
    slope: Floats = sum(corner * distance(points + np.float32(1e-3) * corner) for corner in corners)
    slope /= np.sqrt((slope * slope).sum(0)) + np.float32(1e-12)
    return slope


# The light is fixed in the room: a large lamp upper left, a weaker one at the right, bright walls.
KEY, FILL_IN = (np.array(v) / np.linalg.norm(v) for v in ((-0.5, -0.6, 0.75), (0.8, -0.5, 0.3)))


def lightness(normals: Floats, above_floor: Floats) -> Floats:
    """Factor on a surface's colour, about 0.6 to 1.1, darker where the product meets the floor."""
    key, fill = np.maximum(KEY @ normals, 0), np.maximum(FILL_IN @ normals, 0)
    light = 0.52 + 0.47 * key + 0.18 * fill + 0.06 * normals[2]
    return light * (1 - 0.3 * np.exp(-above_floor / 0.05))


def highlight(normals: Floats, directions: Floats) -> Floats:
    """Reflection of two tall soft boxes, in [0, 1]: strips along upright curved walls."""
    upright = np.hypot(normals[0], normals[1])
    mirrored = directions - 2 * (directions * normals).sum(0) * normals
    azimuth = np.arctan2(mirrored[0], -mirrored[1])  # 0: back towards the camera
    left = np.exp(-(((azimuth + 0.95) / 0.22) ** 2))
    right = 0.6 * np.exp(-(((azimuth - 1.35) / 0.15) ** 2))
    return (0.45 * upright * (left + right)).astype(np.float32)
