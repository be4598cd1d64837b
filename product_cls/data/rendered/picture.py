"""Draw one picture: one item or a group, from a pose's lookup table."""

from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from product_cls.data.rendered.geometry import FILL, SUPERSAMPLE, width_along
from product_cls.data.rendered.render import Lookup

RENDERER = 9  # version of the renderer; raise it whenever a change alters a picture


class Item(NamedTuple):
    """Scale of an item on the canvas and its offset from the centre, in rays."""

    scale: float
    right: float
    down: float


WHOLE = Item(1.0, 0.0, 0.0)  # a single item, exactly as in the table


def draw_product(
    table: Lookup,
    atlas: NDArray[np.uint8],
    size: int,
    rng: np.random.Generator,
    *,
    items: float = 0.0,
    light: float = 1.0,
    jitter: float = 1.0,
) -> MatLike:
    """Draw one picture, uint8 [size, size, 3] BGR, with studio variation drawn from ``rng``.

    Varies the backdrop (lightness, tint); distance (+-6 %) and centring (+-3 % of the side), times
    ``jitter``; exposure (+-8 %) and white balance (+-3 %), times ``light``. With probability
    ``items`` a second or third item of the product stands behind and beside the first.

    Args:
        table: lookup table of the pose.
        atlas: artwork of the product, uint8 [height, width, 3] BGR.
        size: side of the picture in pixels.
        rng: source of all variation.
        items, light, jitter: see `difficulty.Knobs`.
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

    # Shifting and scaling the traced square imitates small camera movements. It is free, because
    # the square is downsampled to the picture anyway.
    side = round(SUPERSAMPLE * size * away)
    slack = (canvas.shape[0] - side) / 2
    top, left = (round(slack + SUPERSAMPLE * size * shift) for shift in (down, right))
    window = canvas[top : top + side, left : left + side]
    picture = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    gained = np.minimum(np.arange(256)[:, None] * gains, 255).astype(np.uint8)
    return cv2.LUT(picture, gained[None])


def _place(table: Lookup, size: int, rng: np.random.Generator) -> list[Item]:
    """Place two or three items, farthest first: one in front, one or two behind it to the sides.

    All have the same roll and none intersects another. The group is scaled down until it fits the
    frame. All items use one lookup table, as if seen straight ahead: the rotation that perspective
    would add to the outer items (up to 20 degrees) is ignored.
    """
    places = [(0.0, 0.0)]
    sides = (1, -1) if rng.random() < 0.5 else (-1, 1)
    for side in sides[: 1 + (rng.random() < 0.45)]:
        bearing = rng.uniform(10, 60) if side > 0 else rng.uniform(120, 170)
        gap = rng.uniform(1.02, 1.15) * width_along(table.shape, table.roll, bearing)
        x, y = gap * np.cos(np.radians(bearing)), gap * np.sin(np.radians(bearing))
        between = x - places[-1][0], y - places[-1][1]
        room = width_along(table.shape, table.roll, np.degrees(np.arctan2(*between[::-1])))
        if np.hypot(*between) > 0.99 * room:  # otherwise a third item would intersect the second
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
    """The shadow map, scaled about the canvas centre and shifted."""
    scale, right, down = item
    if item == WHOLE:
        return shadow
    half = shadow.shape[0] / 2
    matrix = np.array(
        [[scale, 0, right + (1 - scale) * half], [0, scale, down + (1 - scale) * half]], np.float32
    )
    return cv2.warpAffine(shadow, matrix, shadow.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def _paste(canvas: MatLike, product: MatLike, table: Lookup, item: Item) -> None:
    """Paste the product onto the canvas, rounded to whole rays."""
    mask, half = table.mask, canvas.shape[0] / 2
    if item.scale != 1:
        height, width = (max(round(item.scale * side), 1) for side in mask.shape)
        # The product is black outside the mask, so downsampled edges are already weighted.
        product = cv2.resize(product, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    top = round(half + item.scale * (table.rows.start - half) + item.down)
    left = round(half + item.scale * (table.columns.start - half) + item.right)
    height, width = mask.shape
    above, before = max(-top, 0), max(-left, 0)  # an extreme pose may leave the canvas by a ray
    place = canvas[top + above : top + height, left + before : left + width]
    seen = slice(above, above + place.shape[0]), slice(before, before + place.shape[1])
    if item.scale == 1:
        cv2.copyTo(product[seen], mask[seen], place)
    else:
        behind = cv2.multiply(place, cv2.merge([255 - mask[seen]] * 3), scale=1 / 255)
        cv2.add(behind, product[seen], dst=place)
