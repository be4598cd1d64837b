"""Signed distance to the outline of a solid of revolution: straight sides and circular arcs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from product_cls.data.rendered.shapes.base import Floats


class Vertex(NamedTuple):
    """A point of an outline: distance from the axis, height, and the side that starts here.

    ``bulge`` is the tangent of a quarter of the arc's angle: 0 is straight, 0.41 a quarter circle,
    1 a half circle; positive bulges outwards. An arc must join its neighbours smoothly and spans at
    most 180 degrees.
    """

    r: float
    z: float
    bulge: float = 0.0


def middle(begin: Vertex, end: Vertex) -> Vertex:
    """Midpoint of a side, on the arc."""
    r = (begin.r + end.r + begin.bulge * (end.z - begin.z)) / 2
    return Vertex(r, (begin.z + end.z - begin.bulge * (end.r - begin.r)) / 2)


def section_distance(outline: Sequence[Vertex], r: Floats, z: Floats) -> Floats:
    """Signed distance [N] of points (r [N], z [N]) to the region inside outline and axis."""
    # Polygon distance, with the inside found by crossings (Quilez, "2D distance functions"). The
    # axis is not a side, but no outside point is nearest to it.
    nearest = np.full(r.shape, np.inf, np.float32)
    inside = np.zeros(r.shape, bool)
    below = z < outline[0].z
    for begin, end in pairwise(outline):
        if begin.bulge:
            gap, sliver = _arc_gap(r, z, begin, end)
            inside ^= sliver
        else:
            gap = _side_gap(r, z, begin, end)
        np.minimum(nearest, gap, out=nearest)
        dz = end.z - begin.z
        below_end = z < end.z
        if dz:
            slope = np.float32((end.r - begin.r) / dz)
            side = (z - np.float32(begin.z)) * slope + np.float32(begin.r) if slope else begin.r
            inside ^= (below != below_end) & (r < side)
        below = below_end
    result: Floats = np.sqrt(nearest)
    return np.where(inside, -result, result)


def _side_gap(r: Floats, z: Floats, begin: Vertex, end: Vertex) -> Floats:
    """Squared distances to a straight side."""
    dr, dz = end.r - begin.r, end.z - begin.z
    if dr == 0:
        x, y = r - np.float32(begin.r), z - np.clip(z, *_ordered(begin.z, end.z))
    elif dz == 0:
        x, y = r - np.clip(r, *_ordered(begin.r, end.r)), z - np.float32(begin.z)
    else:
        square = dr * dr + dz * dz
        x, y = r - np.float32(begin.r), z - np.float32(begin.z)
        along: Floats = np.clip(x * np.float32(dr / square) + y * np.float32(dz / square), 0, 1)
        x, y = x - along * np.float32(dr), y - along * np.float32(dz)
    gap: Floats = x * x + y * y
    return gap


def _ordered(first: float, second: float) -> tuple[np.float32, np.float32]:
    return np.float32(min(first, second)), np.float32(max(first, second))


def _arc_gap(r: Floats, z: Floats, begin: Vertex, end: Vertex) -> tuple[Floats, NDArray[np.bool_]]:
    """Squared distances [N] to an arc, and which points lie between the arc and its chord.

    The distance is infinite for points that do not face the arc along one of its radii.
    """
    dr, dz = end.r - begin.r, end.z - begin.z
    chord, half = np.hypot(dr, dz), 2 * np.arctan(abs(begin.bulge))
    out_r, out_z = np.sign(begin.bulge) * np.array((dz, -dr)) / chord  # towards the arc
    radius = np.float32(chord / 2 / np.sin(half))
    deep = radius * np.cos(half)  # distance from the centre to the chord
    x = r - np.float32((begin.r + end.r) / 2 - deep * out_r)
    y = z - np.float32((begin.z + end.z) / 2 - deep * out_z)
    far = np.sqrt(x * x + y * y)
    outwards = x * np.float32(out_r) + y * np.float32(out_z)
    sliver = (far < radius) & (outwards > np.float32(deep))
    # Slightly more than the arc, so that no point is lost where two arcs meet.
    faces = outwards >= far * np.float32(np.cos(half)) - np.float32(1e-5)
    gap: Floats = np.where(faces, np.square(far - radius), np.float32(np.inf))
    return gap, sliver
