"""Labels, plastic, glass and caps of drink bottles and sauce jars."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import layout_of, write_brand
from product_cls.data.rendered.panels.wrapped import mirrored_background, wrap
from product_cls.data.rendered.printing import PAPER, mix_colours, pixels, readable_on, write
from product_cls.data.rendered.shapes.base import Floats
from product_cls.data.rendered.words import Colour


def _label_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Label: two opposite fronts on drinks, one front and a back on jars."""
    drink = product.form == "drink"
    layout = layout_of(product, "tall" if drink else "wide")
    image = mirrored_background(size, product, layout)
    return wrap(image, product, layout, 0.36 if drink else 0.33, fronts=2 if drink else 1)


def _content(product: Product) -> Colour:
    """Colour of the drink or sauce, seen through the wall."""
    if product.form == "drink":
        return mix_colours(product.taste.accent, PAPER, 0.3)
    return mix_colours(product.taste.accent, (40, 20, 10), 0.25)


def _tinted(size: tuple[int, int], colour: Colour, lightness: NDArray[np.floating]) -> Image.Image:
    """``colour`` times ``lightness``, which broadcasts to [height, width]."""
    factors = np.broadcast_to(lightness, size[::-1])[..., None]
    shaded = np.clip(np.array(colour, np.float32) * factors, 0, 255)
    return Image.fromarray(shaded.astype(np.uint8))


def _grid(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Angle in radians [1, width], and distance from the top [height, 1] in panel heights."""
    width, height = size
    turn = np.arange(width, dtype=np.float32)[None] * np.float32(2 * np.pi / width)
    return turn, np.arange(height, dtype=np.float32)[:, None] / np.float32(height)


def _shoulder_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Clear above the content's level, with streaks of light that suggest a thick wall."""
    turn, down = _grid(size)
    image = _tinted(size, _content(product), 1 + 0.07 * np.cos(6 * turn) + 0 * down)
    level = round(size[1] * (0.42 if product.form == "drink" else 0.3))
    clear = mix_colours(_content(product), (232, 238, 240), 0.7)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size[0], level), clear)
    edge = max(size[1] // 40, 1)
    draw.rectangle((0, level - edge, size[0], level), mix_colours(_content(product), PAPER, 0.5))
    return image


def _foot_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Vertical ribs on plastic; smooth glass that darkens towards the bottom."""
    turn, down = _grid(size)
    if product.form == "drink":
        light = 1 + 0.13 * np.sin(20 * turn) * np.minimum(3 * down, 1) - 0.1 * down
    else:
        light = 1.0 + 0.05 * np.cos(6 * turn) - 0.25 * down**2
    return _tinted(size, _content(product), light)


def _cap_colour(product: Product) -> Colour:
    """Cap colour of the line: base, accent or white."""
    return (product.base, product.taste.accent, (244, 244, 242))[product.design // 24 % 3]


def _cap_side_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Grip ridges on plastic caps; metal lids of jars have a rolled lower edge."""
    turn, down = _grid(size)
    if product.form == "drink":
        ridged = (down > 0.16) & (down < 0.8)
        light = 0.95 + 0.15 * np.where(ridged, np.sin(36 * turn), 0)
        light = np.where((down > 0.82) & (down < 0.88), 0.6, light)  # gap above the tamper ring
    else:
        light = 0.97 + 0.08 * np.sin(48 * turn) * ((down > 0.2) & (down < 0.66))
        light = light - 0.25 * np.exp(-(((down - 0.78) / 0.05) ** 2))
    return _tinted(size, _cap_colour(product), light)


def _cap_top_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Raised rings; lids of jars are printed as well."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(2 * x / width - 1, 2 * y / height - 1)
    light = np.ones_like(radius)
    for ring in (0.86, 0.68) if product.form == "drink" else (0.9, 0.8, 0.34):
        light += 0.25 * (radius - ring) / 0.03 * np.exp(-(((radius - ring) / 0.03) ** 2))
    colour = _cap_colour(product)
    image = _tinted(size, colour, light)
    ink = readable_on(colour)
    if product.form == "drink":
        write_brand(image, (0.24, 0.36, 0.76, 0.64), product, ink)
        return image
    write_brand(image, (0.2, 0.18, 0.8, 0.36), product, ink)
    write(image, (0.28, 0.42, 0.72, 0.58), product.brand_ko, ink, bold=0.02)
    draw = ImageDraw.Draw(image)
    band = pixels(size, (0.22, 0.64, 0.78, 0.8))
    draw.rounded_rectangle(band, width // 24, product.taste.accent, PAPER, 2)
    words = f"{product.taste.korean} {product.kind.korean}"
    write(image, (0.26, 0.66, 0.74, 0.78), words, readable_on(product.taste.accent), bold=0.02)
    return image


PANELS = {
    "bottle label": _label_panel,
    "bottle shoulder": _shoulder_panel,
    "bottle foot": _foot_panel,
    "bottle cap side": _cap_side_panel,
    "bottle cap top": _cap_top_panel,
}
