"""One picture: one item or a group of them, in the light and before the camera of a table."""

from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from product_cls.data.rendered.geometry import FILL, SUPERSAMPLE, width_along
from product_cls.data.rendered.render import Lookup

RENDERER = 9  # raise it with any change that changes a picture


class Item(NamedTuple):
    """Where an item stands on the canvas: how large, and how far from the centre, in rays."""

    scale: float
    right: float
    down: float


WHOLE = Item(1.0, 0.0, 0.0)  # alone, where the table has it


def draw(
    table: Lookup,
    atlas: NDArray[np.uint8],
    size: int,
    rng: np.random.Generator,
    *,
    items: float = 0.0,
    light: float = 1.0,
    jitter: float = 1.0,
) -> MatLike:
    """One picture, uint8 [size, size, 3] BGR, with small accidents of a studio drawn from ``rng``.

    They are: backdrop (lightness, tint); distance (+-6 %) and centring (+-3 % of the side), times
    ``jitter``; exposure (+-8 %) and white balance (+-3 %), times ``light``; and with probability
    ``items`` a second or third item of the product, behind and beside the first.
    """
    grey = rng.uniform(222, 250)
    tint = grey + rng.uniform(-4, 4, 3)
    away, right, down = np.array((1.0, 0, 0)) + jitter * rng.uniform(
        (-0.06, -0.03, -0.03), (0.06, 0.03, 0.03)
    )
    gains = (1 + 0.08 * light * rng.uniform(-1, 1)) * (1 + 0.03 * light * rng.uniform(-1, 1, 3))
    group = _place(table, size, rng) if rng.random() < items else [WHOLE]

    product = cv2.remap(atlas, *table.texels, cv2.INTER_LINEAR)
    product = cv2.multiply(product, table.shade, scale=1 / 128)
    product = cv2.add(product, table.shine)
    level = table.backdrop
    for item in group:
        level = cv2.multiply(level, _moved(table.shadow, item), scale=1 / 255)
    levels = (np.arange(256)[:, None] * tint / 255).astype(np.uint8)
    canvas = cv2.merge([cv2.LUT(level, np.ascontiguousarray(of)) for of in levels.T])
    for item in group:
        _paste(canvas, product, table, item)

    # Moving and scaling the traced square stands for moving the camera a little: averaging it down
    # to the picture happens anyway.
    side = round(SUPERSAMPLE * size * away)
    slack = (canvas.shape[0] - side) / 2
    top, left = (round(slack + SUPERSAMPLE * size * shift) for shift in (down, right))
    window = canvas[top : top + side, left : left + side]
    picture = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    gained = np.minimum(np.arange(256)[:, None] * gains, 255).astype(np.uint8)
    return cv2.LUT(picture, gained[None])


def _place(table: Lookup, size: int, rng: np.random.Generator) -> list[Item]:
    """Two or three items, the farthest first: one in front, one or two behind it to the sides, all
    turned alike and none in another's way; then the picture is scaled down until all are in it.

    All are drawn from one table, as if seen from straight ahead: what perspective would turn the
    outer ones by (up to 20 degrees) is left out.
    """
    places = [(0.0, 0.0)]
    sides = (1, -1) if rng.random() < 0.5 else (-1, 1)
    for side in sides[: 1 + (rng.random() < 0.45)]:
        bearing = rng.uniform(10, 60) if side > 0 else rng.uniform(120, 170)
        gap = rng.uniform(1.02, 1.15) * width_along(table.shape, table.roll, bearing)
        x, y = gap * np.cos(np.radians(bearing)), gap * np.sin(np.radians(bearing))
        between = x - places[-1][0], y - places[-1][1]
        room = width_along(table.shape, table.roll, np.degrees(np.arctan2(*between[::-1])))
        if np.hypot(*between) > 0.99 * room:  # else a third item would stand in the second
            places.append((x, y))

    sin, cos = np.sin(np.radians(table.pitch)), np.cos(np.radians(table.pitch))
    group = []
    for x, y in sorted(places, key=lambda place: -place[1]):
        depth = table.distance + y * cos
        group.append(
            Item(table.distance / depth, table.focal * x / depth, -table.focal * y * sin / depth)
        )
    half = table.backdrop.shape[0] / 2
    rows, columns = table.rows, table.columns
    left, right = (
        end(item.scale * (edge - half) + item.right for item in group)
        for end, edge in ((min, columns.start), (max, columns.stop))
    )
    top, bottom = (
        end(item.scale * (edge - half) + item.down for item in group)
        for end, edge in ((min, rows.start), (max, rows.stop))
    )
    shrink = min(1.0, FILL * SUPERSAMPLE * size / max(right - left, bottom - top))
    middle, level = (left + right) / 2, (top + bottom) / 2
    return [
        Item(shrink * scale, shrink * (x - middle), shrink * (y - level)) for scale, x, y in group
    ]


def _moved(shadow: MatLike, item: Item) -> MatLike:
    """A map of the canvas, scaled about its centre and shifted."""
    scale, right, down = item
    if item == WHOLE:
        return shadow
    half = shadow.shape[0] / 2
    matrix = np.array(
        [[scale, 0, right + (1 - scale) * half], [0, scale, down + (1 - scale) * half]], np.float32
    )
    return cv2.warpAffine(shadow, matrix, shadow.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def _paste(canvas: MatLike, product: MatLike, table: Lookup, item: Item) -> None:
    """The product onto the canvas, at the nearest whole rays."""
    mask, half = table.mask, canvas.shape[0] / 2
    if item.scale != 1:
        height, width = (max(round(item.scale * side), 1) for side in mask.shape)
        # Black outside the mask: what is averaged at the edge is already weighted with its share.
        product = cv2.resize(product, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    top = round(half + item.scale * (table.rows.start - half) + item.down)
    left = round(half + item.scale * (table.columns.start - half) + item.right)
    height, width = mask.shape
    above, before = max(-top, 0), max(-left, 0)  # a sharp pose may leave the canvas by a ray
    place = canvas[top + above : top + height, left + before : left + width]
    seen = slice(above, above + place.shape[0]), slice(before, before + place.shape[1])
    if item.scale == 1:
        cv2.copyTo(product[seen], mask[seen], place)
    else:
        behind = cv2.multiply(place, cv2.merge([255 - mask[seen]] * 3), scale=1 / 255)
        cv2.add(behind, product[seen], dst=place)
