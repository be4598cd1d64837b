"""Texture atlas of a product: all its panels side by side in one picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from product_cls.core.fonts import load_font
from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.geometry import MARGIN, atlas_offsets, texel_density
from product_cls.data.rendered.panels import PANELS
from product_cls.data.rendered.printing import load_emoji
from product_cls.data.rendered.shapes import FORMS

SMALLEST = 256  # artwork for smaller pictures is drawn at this size and downsampled


def require_packages() -> None:
    """Raise a `UserError` naming the missing package if fonts or emoji are not installed."""
    load_font(12, False)
    load_emoji("🍎", 12)


def draw_atlas(product: Product, size: int) -> NDArray[np.uint8]:
    """Draw all panels of a product in one row, at the places of `geometry.atlas_offsets`.

    Args:
        size: side of the rendered pictures in pixels.

    Returns:
        uint8 [height, width, 3] BGR; margins repeat the border pixels of the panels.

    Raises:
        UserError: the package with the fonts or the emoji is not installed.
    """
    shape = FORMS[product.shape, product.form, product.size]
    drawn = atlas_offsets(shape, texel_density(shape, max(size, SMALLEST)))
    placed = atlas_offsets(shape, texel_density(shape, size))
    last_left, last_width, _ = placed[-1]
    height = max(panel_height for _, _, panel_height in placed) + 2 * MARGIN
    atlas = np.zeros((height, last_left + last_width + MARGIN, 3), np.uint8)
    for panel, (_, *draw_size), (left, *panel_size) in zip(
        shape.panels, drawn, placed, strict=True
    ):
        image = np.asarray(PANELS[panel.name]((draw_size[0], draw_size[1]), product))
        if draw_size != panel_size:
            image = cv2.resize(image, panel_size, interpolation=cv2.INTER_AREA)
        image = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "edge")
        rows, columns = image.shape[:2]
        atlas[:rows, left - MARGIN : left - MARGIN + columns] = image[:, :, ::-1]
    return atlas
