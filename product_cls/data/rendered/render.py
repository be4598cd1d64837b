"""A lookup table for each pose of a shape.

A table holds, for every ray of the camera, the place on the artwork and the light that falls there;
it is made once for a shape and a pose and serves all products of that shape (`picture.py`).
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

    ``rows``, ``columns`` are where the product lies; ``texels`` (fixed point, for `cv2.remap`),
    ``mask`` (255 on the product), ``shade`` (128 keeps a colour) and ``shine`` (added) cover only
    that part. ``backdrop`` is the lightness of the surroundings and ``shadow`` what the product
    leaves of it (255 is all), both on the whole canvas. ``distance`` is how far the camera is from
    the product's centre, ``focal`` its focal length in rays.
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
    """The table for one pose (angles in degrees) and pictures of ``size`` pixels a side.

    ``light``: how strong lamps and glare are, see `difficulty.Knobs`.

    Tracing is the slow part, and it is kept for the last bare pose only: ask for rolls that differ
    by a multiple of ``shape.period`` one after the other.
    """
    bare = roll % shape.period if shape.period else 0.0
    seen = _look(shape, bare, pitch, size, light)
    panel, u, v = shape.texture(turn(seen.points, -roll))
    placed = np.array(atlas_offsets(shape, texel_density(shape, size)), np.float32)
    left, width, height = placed[:, 0], placed[:, 1], placed[:, 2]
    inside = seen.mask > 0
    column = np.zeros(seen.mask.shape, np.float32)
    row = np.zeros(seen.mask.shape, np.float32)
    # Texel centres lie at half texels, and cv2 counts from the first centre.
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
    """The part of a lookup that depends on the bare solid only; points [3, N] in the room."""

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
    # Everything up to the points is done in the product's frame: there the camera goes round it.
    camera = turn(camera_distance(shape) * np.array([[0], [-cos], [sin]], np.float32), -roll)
    focal = focal_length(size)

    def rays(x: Floats, y: Floats) -> Floats:
        """Unit directions [3, N] through canvas positions, in rays from the canvas's corner."""
        x, y = (x - side / 2) / focal, (side / 2 - y) / focal
        directions = np.stack([x, y * sin + cos, y * cos - sin]).astype(np.float32)
        directions /= np.sqrt((directions * directions).sum(0))
        return turn(directions, -roll)

    # A bundle of 4 x 4 rays first goes as far as it safely can, then each ray alone.
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
    """Lightness of backdrop and floor [side, side] and the product's shadow on it, from rays
    (product's frame) on a coarse grid.

    The floor runs into the backdrop without an edge. Where the product keeps light off, by its
    signed distance from the floor and from a point on the way to the lamp, there is soft shadow.
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
