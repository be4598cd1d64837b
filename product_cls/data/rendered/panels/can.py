"""A can's label, lid and bare metal."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import layout_of, write_brand
from product_cls.data.rendered.panels.wrapped import mirrored_background, wrap
from product_cls.data.rendered.printing import (
    PAPER,
    mix_colours,
    on_paper,
    paste_emoji,
    pixels,
    readable_on,
    write,
)
from product_cls.data.rendered.words import Colour

METAL = (176, 178, 182)


def _label_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Label: two opposite fronts on drinks, one front and a back on food."""
    drink = product.form == "drink"
    layout = layout_of(product, "tall" if drink else "wide")
    image = mirrored_background(size, product, layout)
    return wrap(image, product, layout, 0.36 if drink else 0.38, fronts=2 if drink else 1)


@lru_cache(maxsize=8)
def _end(size: tuple[int, int]) -> Image.Image:
    """Brushed metal with ridges near the edge."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * x / width - 1, 2 * y / height - 1
    radius = np.hypot(x, y)
    grey = 186 + 22 * np.cos(2 * np.arctan2(y, x) + 0.8) + 5 * np.sin(radius * 90)
    for bead, depth in ((0.93, 46), (0.84, 34), (0.52, 22)):
        grey += depth * np.sin((radius - bead) * 60) * np.exp(-(((radius - bead) / 0.03) ** 2))
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


def _draw_tab(image: Image.Image, colour: Colour) -> None:
    """Draw the riveted pull tab."""
    size = image.size
    draw = ImageDraw.Draw(image)
    thick = max(size[0] // 28, 1)
    light, dark = mix_colours(colour, PAPER, 0.55), mix_colours(colour, (40, 40, 44), 0.45)
    draw.rounded_rectangle(pixels(size, (0.4, 0.3, 0.6, 0.66)), size[0] // 10, colour)
    draw.ellipse(pixels(size, (0.43, 0.48, 0.57, 0.62)), (92, 94, 98))
    draw.ellipse(pixels(size, (0.4, 0.45, 0.6, 0.65)), None, light, thick)
    draw.ellipse(pixels(size, (0.47, 0.33, 0.53, 0.39)), light, dark)


def _lid_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Lid: bare with a coloured tab on drinks, printed around the ring on food."""
    accent = product.taste.accent
    image = _end(size).copy()
    if product.form == "drink":
        _draw_tab(image, accent)
        write(image, (0.32, 0.72, 0.68, 0.78), product.best_before, (70, 72, 80))
        return image
    draw = ImageDraw.Draw(image)
    write_brand(image, (0.26, 0.12, 0.74, 0.26), product, on_paper(product.base))
    _draw_tab(image, (150, 152, 156))
    draw.chord(pixels(size, (0.09, 0.09, 0.91, 0.91)), 28, 152, accent)
    paste_emoji(image, product.taste.emoji, (size[0] // 2, round(size[1] * 0.77)), size[0] // 8)
    write(image, (0.3, 0.835, 0.7, 0.885), product.taste.korean, readable_on(accent), bold=0.03)
    write(image, (0.66, 0.42, 0.88, 0.47), product.best_before, (70, 72, 80))
    return image


def _metal_panel(size: tuple[int, int], product: Product) -> Image.Image:
    return Image.new("RGB", size, METAL)


PANELS = {"label": _label_panel, "lid": _lid_panel, "metal": _metal_panel}
