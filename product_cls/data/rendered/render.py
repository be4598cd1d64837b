"""Pictures of products: a lookup table for each pose, coloured with the artwork of each product.

A table holds, for every ray of the camera, the place on the artwork and the light that falls there;
it is made once for a shape and a pose and serves all products of that shape.
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
    SUPERSAMPLE,
    Floats,
    Shape,
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

RENDERER = 1  # raise it with any change that changes a picture


@dataclass(frozen=True)
class Lookup:
    """What the camera sees in one pose, on a square canvas of `CANVAS` output sides.

    ``rows``, ``columns`` are where the product lies; ``texels`` (fixed point, for `cv2.remap`),
    ``mask`` (255 on the product), ``shade`` (128 keeps a colour) and ``shine`` (added) cover only
    that part. ``floor`` is the lightness of the surroundings, shadow included, on the whole canvas.
    """

    rows: slice
    columns: slice
    texels: tuple[MatLike, MatLike]
    mask: MatLike
    shade: MatLike
    shine: MatLike
    floor: MatLike


def lookup(shape: Shape, roll: float, pitch: float, size: int) -> Lookup:
    """The table for one pose (angles in degrees) and pictures of ``size`` pixels a side.

    Tracing is the slow part, and it is kept for the last bare pose only: ask for rolls that differ
    by a multiple of ``shape.period`` one after the other.
    """
    bare = roll % shape.period if shape.period else 0.0
    seen = _look(shape, bare, pitch, size)
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
        seen.rows, seen.columns, texels, seen.mask, seen.shade, cv2.merge([shine] * 3), seen.floor
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
    floor: MatLike


@lru_cache(maxsize=1)
def _look(shape: Shape, roll: float, pitch: float, size: int) -> _Seen:
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
    shade = np.zeros(near.shape, np.uint8)
    shade[mask > 0] = 128 * lightness(normals, points[2] + shape.height / 2)
    return _Seen(
        slice(top, bottom),
        slice(left, right),
        mask,
        points,
        cv2.merge([shade] * 3),
        255 * highlight(normals, directions),
        _surroundings(shape, roll, camera, bundles, side),
    )


def _surroundings(
    shape: Shape, roll: float, camera: Floats, directions: Floats, side: int
) -> MatLike:
    """Lightness of backdrop and floor [side, side], from rays (product's frame) on a coarse grid.

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
    level *= 1 - np.where(falling, np.minimum(shadow, 0.75), 0)
    coarse = np.clip(255 * level, 0, 255).astype(np.uint8).reshape(grid, grid)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)


def draw(table: Lookup, atlas: NDArray[np.uint8], size: int, rng: np.random.Generator) -> MatLike:
    """One picture, uint8 [size, size, 3] BGR, with small accidents of a studio drawn from ``rng``.

    They are: backdrop (lightness, tint), distance (about +-6 %), centring (+-3 % of the side) and
    exposure (+-8 %).
    """
    grey = rng.uniform(222, 250)
    tint = grey + rng.uniform(-4, 4, 3)
    zoom, right, down = rng.uniform((0.95, -0.03, -0.03), (1.07, 0.03, 0.03))
    exposure = rng.uniform(0.92, 1.08)

    levels = (np.arange(256)[:, None] * tint / 255).astype(np.uint8)
    canvas = cv2.merge([cv2.LUT(table.floor, np.ascontiguousarray(level)) for level in levels.T])
    product = cv2.remap(atlas, *table.texels, cv2.INTER_LINEAR)
    product = cv2.multiply(product, table.shade, scale=1 / 128)
    product = cv2.add(product, table.shine)
    cv2.copyTo(product, table.mask, canvas[table.rows, table.columns])
    # Moving and scaling the traced square stands for moving the camera a little: averaging it down
    # to the picture happens anyway.
    side = round(SUPERSAMPLE * size * zoom)
    slack = (canvas.shape[0] - side) / 2
    top, left = (round(slack + SUPERSAMPLE * size * shift) for shift in (down, right))
    window = canvas[top : top + side, left : left + side]
    picture = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(picture, alpha=exposure)
