"""Lookup table of one pose of a shape.

For every camera ray a table holds the position on the artwork and the light at that point. It is
computed once per shape and pose and used for all products of that shape (`picture.py`).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from product_cls.data.rendered.geometry import (
    CANVAS,
    MARGIN,
    atlas_offsets,
    camera_distance,
    focal_length,
    highlight,
    lightness,
    march,
    surface_normals,
    texel_density,
    turn,
)
from product_cls.data.rendered.shapes.base import Floats, Shape


@dataclass(frozen=True)
class Lookup:
    """What the camera sees in one pose, on a square canvas of `CANVAS` output sides.

    Attributes:
        roll, pitch: pose in degrees.
        rows, columns: part of the canvas that holds the product, ``[h, w]``.
        texels: fixed-point maps for `cv2.remap`, ``[h, w]``.
        mask: uint8 ``[h, w]``, 255 on the product.
        shade: uint8 ``[h, w, 3]``, factor on the colour; 128 keeps it.
        shine: uint8 ``[h, w, 3]``, added to the colour.
        backdrop: uint8 ``[side, side]``, lightness of the surroundings.
        shadow: uint8 ``[side, side]``, share of light the product leaves; 255 is all.
        distance: from the camera to the product's centre, in product heights.
        focal: focal length in rays.
    """

    shape: Shape
    roll: float
    pitch: float

    rows: slice
    columns: slice
    texels: tuple[MatLike, MatLike]
    mask: MatLike
    shade: MatLike
    shine: MatLike
    backdrop: MatLike
    shadow: MatLike
    distance: float
    focal: float


def lookup(shape: Shape, roll: float, pitch: float, size: int, light: float = 1.0) -> Lookup:
    """Compute the table of one pose.

    Tracing is slow and cached for the last bare pose only, so request rolls that differ by a
    multiple of ``shape.period`` one after the other.

    Args:
        shape: solid to trace.
        roll, pitch: pose in degrees.
        size: side of the output pictures in pixels.
        light: strength of lamps and glare, see `difficulty.Knobs`.
    """
    bare = roll % shape.period if shape.period else 0.0
    seen = _look(shape, bare, pitch, size, light)
    panel, u, v = shape.texture(turn(seen.points, -roll))
    placed = np.array(atlas_offsets(shape, texel_density(shape, size)), np.float32)
    left, width, height = placed[:, 0], placed[:, 1], placed[:, 2]
    inside = seen.mask > 0
    column = np.zeros(seen.mask.shape, np.float32)
    row = np.zeros(seen.mask.shape, np.float32)
    # Texel centres lie at half texels, whereas cv2 counts from the first centre.
    column[inside] = left[panel] + u * width[panel] - 0.5
    row[inside] = MARGIN + v * height[panel] - 0.5
    texels = cv2.convertMaps(column, row, cv2.CV_16SC2)
    gloss = np.array([p.gloss for p in shape.panels], np.float32)
    shine = np.zeros(seen.mask.shape, np.uint8)
    shine[inside] = (gloss[panel] * seen.shine).astype(np.uint8)
    return Lookup(
        shape=shape,
        roll=roll,
        pitch=pitch,
        rows=seen.rows,
        columns=seen.columns,
        texels=texels,
        mask=seen.mask,
        shade=seen.shade,
        shine=cv2.merge([shine] * 3),
        backdrop=seen.backdrop,
        shadow=seen.shadow,
        distance=camera_distance(shape),
        focal=focal_length(size),
    )


@dataclass(frozen=True)
class _Seen:
    """Part of a lookup that depends only on the bare solid; points [3, N] in the room's frame."""

    rows: slice
    columns: slice
    mask: NDArray[np.uint8]
    points: Floats
    shade: MatLike
    shine: Floats
    backdrop: MatLike
    shadow: MatLike


@lru_cache(maxsize=1)
def _look(shape: Shape, roll: float, pitch: float, size: int, light: float) -> _Seen:
    side = int(np.ceil(CANVAS * size / 4)) * 4  # a multiple of the coarse grid's step
    sin, cos = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
    # Up to the surface points, all is in the product's frame, where the camera circles the product.
    camera = turn(camera_distance(shape) * np.array([[0], [-cos], [sin]], np.float32), -roll)
    focal = focal_length(size)

    def rays(x: Floats, y: Floats) -> Floats:
        """Unit directions [3, N] through canvas positions, given in rays from its corner."""
        x, y = (x - side / 2) / focal, (side / 2 - y) / focal
        directions = np.stack([x, y * sin + cos, y * cos - sin]).astype(np.float32)
        directions /= np.sqrt((directions * directions).sum(0))
        return turn(directions, -roll)

    # Bundles of 4 x 4 rays advance as far as is safe, then each ray continues alone.
    grid = np.arange(2, side, 4, dtype=np.float32)
    bundles = rays(np.tile(grid, grid.size), np.repeat(grid, grid.size))
    reach = float(camera_distance(shape) + np.hypot(shape.radius, shape.height / 2))
    start = march(
        shape.distance, camera, bundles, np.zeros(bundles.shape[1], np.float32), reach, 3 / focal
    )
    hit = start.reshape(grid.size, grid.size) < reach
    start *= 1 - 2 * 3 / focal
    rows = np.flatnonzero(hit.any(1))
    columns = np.flatnonzero(hit.any(0))
    top, bottom, left, right = rows[0] * 4, rows[-1] * 4 + 4, columns[0] * 4, columns[-1] * 4 + 4
    near = np.repeat(np.repeat(hit, 4, 0), 4, 1)[top:bottom, left:right]
    y, x = np.nonzero(near)
    directions = rays(x + np.float32(left + 0.5), y + np.float32(top + 0.5))
    begin = start.reshape(hit.shape)[(y + top) // 4, (x + left) // 4]
    travelled = march(shape.distance, camera, directions, begin, reach, 0.0)
    landed = travelled < reach
    directions = directions.take(np.flatnonzero(landed), 1)
    points = camera + travelled[landed] * directions
    mask = np.zeros(near.shape, np.uint8)
    mask[y[landed], x[landed]] = 255

    normals = turn(surface_normals(shape.distance, points), roll)
    points, directions = turn(points, roll), turn(directions, roll)
    shade = np.zeros((*near.shape, 3), np.uint8)
    factors = lightness(normals, points[2] + shape.height / 2, light)
    shade[mask > 0] = np.minimum(128 * factors, 255).T
    return _Seen(
        slice(top, bottom),
        slice(left, right),
        mask,
        points,
        shade,
        np.minimum(255 * light * highlight(normals, directions), 255),
        *_surroundings(shape, roll, camera, bundles, side),
    )


def _surroundings(
    shape: Shape, roll: float, camera: Floats, directions: Floats, side: int
) -> tuple[MatLike, MatLike]:
    """Lightness of backdrop and floor, and the product's shadow on them, both [side, side].

    Computed on a coarse grid of rays in the product's frame. The floor blends into the backdrop.
    Soft shadows follow from the signed distance at the floor and at a point towards the lamp.
    """
    grid = int(np.sqrt(directions.shape[1]))
    row = np.repeat(np.linspace(-1, 1, grid, dtype=np.float32), grid)
    column = np.tile(np.linspace(-1, 1, grid, dtype=np.float32), grid)
    level = 0.97 - 0.05 * row * row - 0.04 * column * column
    falling = directions[2] < -0.01
    on_floor = (
        camera + (-shape.height / 2 - camera[2]) / np.minimum(directions[2], -0.01) * directions
    )
    lamp = turn(np.array([[-0.12], [-0.09], [0.18]], np.float32), -roll)
    contact = np.maximum(shape.distance(on_floor), 0)
    cast = np.maximum(shape.distance(on_floor + lamp), 0)
    shadow = 0.5 * np.exp(-contact / 0.035) + 0.28 * np.exp(-cast / 0.12)
    left = 1 - np.where(falling, np.minimum(shadow, 0.75), 0)

    def enlarge(values: Floats) -> MatLike:
        coarse = np.clip(255 * values, 0, 255).astype(np.uint8).reshape(grid, grid)
        return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)

    return enlarge(level), enlarge(left)
