"""Cups of noodles with a paper lid and pots of yogurt with a foil lid."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import front, layout_of, write_brand
from product_cls.data.rendered.panels.wrapped import mirrored_background, wrap
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    Area,
    mix_colours,
    on_paper,
    paste_emoji,
    pixels,
    readable_on,
    write,
)
from product_cls.data.rendered.shapes.base import Floats

PAPER_LIDS: tuple[dict[str, Area], ...] = (
    {
        "base band": (0, 0, 1, 0.31), "brand": (0.23, 0.09, 0.77, 0.22),
        "brand_ko": (0.36, 0.23, 0.64, 0.29), "korean": (0.06, 0.34, 0.52, 0.58),
        "english": (0.08, 0.59, 0.52, 0.65), "ribbon": (0.13, 0.68, 0.53, 0.77),
        "picture": (0.53, 0.34, 0.94, 0.76),
    },
    {
        "accent band": (0, 0.59, 1, 0.83), "brand": (0.27, 0.07, 0.73, 0.18),
        "brand_ko": (0.36, 0.18, 0.64, 0.23), "picture": (0.3, 0.22, 0.7, 0.6),
        "korean": (0.14, 0.61, 0.86, 0.76), "english": (0.2, 0.765, 0.8, 0.82),
        "ribbon": (0.3, 0.84, 0.7, 0.9),
    },
)  # fmt: skip


def _bowl_label_panel(size: tuple[int, int], product: Product) -> Image.Image:
    layout = layout_of(product, "wide")
    image = mirrored_background(size, product, layout)
    return wrap(image, product, layout, 0.33, fronts=1)


def _pot_label_panel(size: tuple[int, int], product: Product) -> Image.Image:
    layout = layout_of(product, "tall")
    image = mirrored_background(size, product, layout)
    return wrap(image, product, layout, 0.36, fronts=2)


def _tab(image: Image.Image, words: str) -> None:
    """Draw the pull tab, at the edge that faces the viewer."""
    draw = ImageDraw.Draw(image)
    width = max(image.width // 200, 1)
    draw.ellipse(pixels(image.size, (0.37, 0.905, 0.63, 1.12)), PAPER, (120, 120, 124), width)
    write(image, (0.43, 0.925, 0.57, 0.975), words, (200, 30, 40), bold=0.04)


def _paper_lid_panel(size: tuple[int, int], product: Product) -> Image.Image:
    layout = PAPER_LIDS[product.design // 12 % len(PAPER_LIDS)]
    image = front(size, product, layout)
    if "base band" in layout:
        words = "▲ 표시선까지 여십시오 · 뜨거우니 주의"
        write(image, (0.25, 0.81, 0.75, 0.86), words, INK)
    edge = max(size[0] // 30, 1)
    ImageDraw.Draw(image).ellipse(
        (0, 0, size[0] - 1, size[1] - 1), None, product.taste.accent, edge
    )
    _tab(image, "여는 곳")
    return image


@lru_cache(maxsize=8)
def _wrinkles(size: tuple[int, int]) -> Floats:
    """Lightness [height, width, 1] of foil: creases all over and crimps around the edge."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * x / width - 1, 2 * y / height - 1
    radius, turn = np.hypot(x, y), np.arctan2(y, x)
    rng = np.random.default_rng(5)
    light = np.ones_like(x)
    for _ in range(9):
        angle, phase, bend = rng.uniform(0, 2 * np.pi, 3)
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        place = across + 0.06 * np.sin(4 * along + bend) - 0.75 * np.cos(phase)
        near = np.exp(-((place / 0.035) ** 2)) * (0.5 + 0.5 * np.sin(3 * along + phase))
        light += 0.22 * place / 0.035 * near
    light += 0.07 * np.sin(90 * turn) * np.clip((radius - 0.86) / 0.03, 0, 1)
    light -= 0.25 * np.exp(-(((radius - 0.86) / 0.015) ** 2))  # where the foil meets the rim
    return light[..., None].astype(np.float32)


def _foil_lid_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """Brand, name and one food picture, on bare foil or on the base colour."""
    bare = product.design // 24 % 2 == 0
    ground = (218, 220, 224) if bare else mix_colours(product.base, (218, 220, 224), 0.15)
    accent = product.taste.accent
    image = Image.new("RGB", size, ground)
    ink = on_paper(product.base) if bare else readable_on(ground)
    write_brand(image, (0.24, 0.13, 0.76, 0.28), product, ink)
    write(image, (0.36, 0.29, 0.64, 0.35), product.brand_ko, ink, bold=0.02)
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0.37, 1, 0.63)), accent)
    words = "\n".join(product.name_ko.rsplit(" ", 1))
    write(image, (0.07, 0.385, 0.93, 0.615), words, readable_on(accent), bold=0.03)
    draw.ellipse(pixels(size, (0.37, 0.635, 0.63, 0.895)), PAPER)
    paste_emoji(image, product.taste.emoji, (size[0] // 2, round(size[1] * 0.765)), size[0] // 5)
    write(image, (0.66, 0.7, 0.84, 0.77), product.amount, ink, bold=0.02)
    _tab(image, "▲")
    shaded = np.asarray(image, np.float32) * _wrinkles(size)
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


def _paper_panel(size: tuple[int, int], product: Product) -> Image.Image:
    return Image.new("RGB", size, (246, 243, 236))


def _foil_panel(size: tuple[int, int], product: Product) -> Image.Image:
    return Image.new("RGB", size, (214, 216, 220))


PANELS = {
    "cup label": _bowl_label_panel,
    "cup lid": _paper_lid_panel,
    "cup rim": _paper_panel,
    "cup foot": _paper_panel,
    "pot label": _pot_label_panel,
    "pot lid": _foil_lid_panel,
    "pot rim": _foil_panel,
    "pot foot": _paper_panel,
}
