"""Label artwork: what is printed on each panel of a product, with the means of `printing`."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import LAYOUTS, Area, Colour, Product
from product_cls.data.rendered.geometry import FORMS, MARGIN, atlas_offsets, texel_density
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    barcode,
    blend,
    load_emoji,
    load_font,
    nutrition,
    on_paper,
    paste_emoji,
    pattern,
    pixels,
    readable_on,
    small_print,
    write,
)

SMALLEST = 256  # artwork for smaller pictures is drawn for this size and averaged down


def require_packages() -> None:
    """Raise a `UserError` that names the package if fonts or food pictures are not installed."""
    load_font(12, False)
    load_emoji("🍎", 12)


def _dark(product: Product, layout: dict[str, Area]) -> bool:
    """Whether the whole background has the base colour: never under a band of that colour."""
    return product.design // 6 % 2 == 1 and "base band" not in layout


def _background(size: tuple[int, int], product: Product, layout: dict[str, Area]) -> Image.Image:
    pale = blend(PAPER, product.base, 0.12)
    dark = _dark(product, layout)
    first = product.base if dark else pale
    second = blend(first, PAPER if dark else product.base, 0.16)
    image = pattern(size, product.design, first, second)
    draw = ImageDraw.Draw(image)
    for band, colour in (("base band", product.base), ("accent band", product.taste.accent)):
        if band in layout:
            left, top, right, bottom = pixels(size, layout[band])
            draw.rectangle((left, top, right, bottom), colour)
            edge = max(size[1] // 90, 1)
            for y in (top, bottom):
                draw.rectangle((left, y - edge, right, y), blend(colour, PAPER, 0.7))
    return image


def _layout(product: Product, form: str) -> dict[str, Area]:
    choices = LAYOUTS[form]
    return choices[product.design // 12 % len(choices)]


def _front(image: Image.Image, product: Product, layout: dict[str, Area]) -> None:
    """Brand, names, food picture and flavour, onto a background."""
    taste, serif = product.taste, product.design // 36 % 2 == 1
    ground = product.base if _dark(product, layout) else PAPER
    under = {"base band": product.base, "accent band": taste.accent}

    def colour_at(part: str) -> Colour:
        for band, colour in under.items():
            if band in layout and layout[band][1] <= layout[part][1] < layout[band][3]:
                return colour
        return ground

    draw = ImageDraw.Draw(image)
    left, top, right, bottom = pixels(image.size, layout["picture"])
    centre, half = ((left + right) // 2, (top + bottom) // 2), min(right - left, bottom - top) // 2
    for share, colour in (
        (1.0, PAPER),
        (0.94, taste.accent),
        (0.8, blend(taste.accent, PAPER, 0.75)),
    ):
        reach = round(half * share)
        draw.ellipse([*(c - reach for c in centre), *(c + reach for c in centre)], colour)
    paste_emoji(image, taste.emoji, centre, round(half * 1.25))
    offset = round(half * 0.66)
    paste_emoji(
        image, product.kind.emoji, (centre[0] + offset, centre[1] + offset), round(half * 0.6)
    )

    left, top, right, bottom = pixels(image.size, layout["ribbon"])
    draw.rounded_rectangle((left, top, right, bottom), (bottom - top) // 3, taste.accent, PAPER, 2)
    ribbon = layout["ribbon"]
    inset = (ribbon[2] - ribbon[0]) * 0.08, (ribbon[3] - ribbon[1]) * 0.2
    inner = (ribbon[0] + inset[0], ribbon[1] + inset[1], ribbon[2] - inset[0], ribbon[3] - inset[1])
    caption = f"{taste.korean} {taste.english.upper()}"
    write(image, inner, caption, readable_on(taste.accent), bold=0.02)

    plain = colour_at("brand")
    brand = on_paper(product.base) if plain == PAPER else readable_on(plain)
    write(image, layout["brand"], product.brand, brand, serif=serif, bold=0.05)
    write(image, layout["brand_ko"], product.brand_ko, brand, bold=0.02)
    name = "\n".join(product.name_ko.rsplit(" ", 1))
    write(image, layout["korean"], name, readable_on(colour_at("korean")), bold=0.03)
    write(image, layout["english"], product.name_en, readable_on(colour_at("english")), bold=0.015)


def _ingredients(product: Product) -> str:
    return (
        f"{product.name_ko} · 내용량 {product.kind.amount} · "
        f"원재료명: {product.taste.korean} 12%, 밀가루, 정제수, 설탕, 식염, 향료 · "
        f"{product.brand_ko}식품 · 직사광선을 피해 서늘한 곳에 보관하십시오. "
    )


def _front_panel(size: tuple[int, int], product: Product) -> Image.Image:
    layout = _layout(product, product.form)
    image = _background(size, product, layout)
    _front(image, product, layout)
    return image


def _back_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, blend(PAPER, product.base, 0.06))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0, 1, 0.15)), product.base)
    draw.rectangle(pixels(size, (0, 0.15, 1, 0.18)), product.taste.accent)
    write(image, (0.1, 0.03, 0.9, 0.13), product.brand, readable_on(product.base), bold=0.05)
    write(image, (0.06, 0.2, 0.66, 0.29), product.name_ko, INK, bold=0.03)
    small_print(image, (0.06, 0.31, 0.62, 0.52), _ingredients(product), INK)
    left, top, right, bottom = pixels(size, (0.66, 0.2, 0.96, 0.52))
    side = min(right - left, bottom - top)
    paste_emoji(image, product.taste.emoji, ((left + right) // 2, (top + bottom) // 2), side)
    nutrition(image, (0.06, 0.56, 0.5, 0.95), product)
    barcode(image, (0.55, 0.7, 0.95, 0.94), product.number)
    return image


def _left_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, product.base)
    turned = Image.new("RGB", (size[1] * 3 // 5, size[0]), product.base)
    write(turned, (0.06, 0.15, 0.94, 0.6), product.brand, readable_on(product.base), bold=0.05)
    write(turned, (0.06, 0.62, 0.94, 0.9), product.name_ko, readable_on(product.base), bold=0.02)
    image.paste(turned.transpose(Image.Transpose.ROTATE_90), (0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0.6, 1, 1)), product.taste.accent)
    draw.rectangle(pixels(size, (0.08, 0.65, 0.92, 0.96)), PAPER)
    small_print(image, (0.13, 0.67, 0.88, 0.95), _ingredients(product), INK)
    return image


def _right_panel(size: tuple[int, int], product: Product) -> Image.Image:
    accent = product.taste.accent
    image = pattern(size, product.design // 7, accent, blend(accent, PAPER, 0.15))
    centre, side = (size[0] // 2, round(size[1] * 0.2)), round(min(size) * 0.72)
    paste_emoji(image, product.taste.emoji, centre, min(side, round(size[1] * 0.32)))
    words = "\n".join(product.name_ko.split())
    write(image, (0.08, 0.38, 0.92, 0.62), words, readable_on(accent), bold=0.04)
    ImageDraw.Draw(image).rectangle(pixels(size, (0.08, 0.66, 0.92, 0.96)), PAPER)
    small_print(image, (0.13, 0.68, 0.88, 0.82), _ingredients(product), INK)
    write(image, (0.13, 0.84, 0.87, 0.94), product.kind.amount, INK, bold=0.03)
    return image


def _top_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, product.base)
    ImageDraw.Draw(image).rectangle(pixels(size, (0, 0.8, 1, 1)), product.taste.accent)
    side = round(size[1] * 0.6)
    paste_emoji(image, product.taste.emoji, (round(size[0] * 0.12), round(size[1] * 0.42)), side)
    words = readable_on(product.base)
    write(image, (0.24, 0.08, 0.96, 0.5), product.brand, words, bold=0.05)
    write(image, (0.24, 0.5, 0.96, 0.76), product.name_ko, words, bold=0.02)
    return image


def _bottom_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, blend(PAPER, product.base, 0.25))
    write(image, (0.3, 0.3, 0.7, 0.6), product.brand, INK)
    return image


def _label_panel(size: tuple[int, int], product: Product) -> Image.Image:
    """A can's label: two fronts opposite each other on drinks, on food one and a back."""
    drink = product.form == "drink"
    layout = _layout(product, "tall" if drink else "wide")
    share = 0.36 if drink else 0.38
    narrow = {
        part: (0.5 + (left - 0.5) * share, top, 0.5 + (right - 0.5) * share, bottom)
        for part, (left, top, right, bottom) in layout.items()
    }
    image = _background(size, product, layout)
    _front(image, product, narrow)
    image = Image.fromarray(np.roll(np.asarray(image), size[0] // 2, axis=1))
    if drink:
        _front(image, product, narrow)
    else:
        brand = readable_on(product.base) if _dark(product, layout) else on_paper(product.base)
        if "base band" in layout:
            brand = readable_on(product.base)
        write(image, (0.34, 0.06, 0.66, 0.24), product.brand, brand, bold=0.05)
        ImageDraw.Draw(image).rectangle(pixels(size, (0.34, 0.32, 0.66, 0.94)), PAPER)
        small_print(image, (0.35, 0.35, 0.54, 0.92), _ingredients(product), INK)
        centre = (round(size[0] * 0.6), round(size[1] * 0.63))
        paste_emoji(image, product.taste.emoji, centre, round(size[1] * 0.42))
    nutrition(image, (0.18, 0.28, 0.3, 0.72), product)
    barcode(image, (0.7, 0.4, 0.82, 0.68), product.number)
    return Image.fromarray(np.roll(np.asarray(image), -(size[0] // 2), axis=1))


@lru_cache(maxsize=8)
def _lid(size: tuple[int, int]) -> Image.Image:
    """Brushed metal with beads near the edge and a ring to pull."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * x / width - 1, 2 * y / height - 1
    radius = np.hypot(x, y)
    grey = 186 + 22 * np.cos(2 * np.arctan2(y, x) + 0.8) + 5 * np.sin(radius * 90)
    for bead, depth in ((0.93, 46), (0.84, 34), (0.52, 22)):
        grey += depth * np.sin((radius - bead) * 60) * np.exp(-(((radius - bead) / 0.03) ** 2))
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    thick = max(width // 28, 1)
    draw.rounded_rectangle(pixels(size, (0.4, 0.3, 0.6, 0.66)), width // 10, (150, 152, 156))
    draw.ellipse(pixels(size, (0.43, 0.48, 0.57, 0.62)), (92, 94, 98))
    draw.ellipse(pixels(size, (0.4, 0.45, 0.6, 0.65)), None, (214, 216, 220), thick)
    draw.ellipse(pixels(size, (0.47, 0.33, 0.53, 0.39)), (222, 224, 228), (110, 112, 116))
    return image


def _lid_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = _lid(size).copy()
    write(image, (0.32, 0.72, 0.68, 0.78), f"{product.number[-6:]} 까지", (70, 72, 80))
    return image


def _metal_panel(size: tuple[int, int], product: Product) -> Image.Image:
    return Image.new("RGB", size, (176, 178, 182))


PANELS: dict[str, Callable[[tuple[int, int], Product], Image.Image]] = {
    "front": _front_panel,
    "back": _back_panel,
    "left": _left_panel,
    "right": _right_panel,
    "top": _top_panel,
    "bottom": _bottom_panel,
    "label": _label_panel,
    "lid": _lid_panel,
    "metal": _metal_panel,
}


def draw_atlas(product: Product, size: int) -> NDArray[np.uint8]:
    """All panels of a product in one row, as `geometry.atlas_offsets` places them.

    Args:
        size: side of the pictures that will be made with it, in pixels.

    Returns:
        uint8 [height, width, 3] BGR; the margins repeat the panels' borders.

    Raises:
        UserError: the package with the fonts or the food pictures is not installed.
    """
    shape = FORMS[product.shape, product.form]
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
