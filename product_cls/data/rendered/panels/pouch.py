"""Fronts and backs of pillow bags and standing pouches."""

import numpy as np
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import (
    draw_badge,
    front,
    ingredients,
    layout_of,
    write_brand,
)
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    Area,
    barcode,
    mix_colours,
    nutrition,
    paste_emoji,
    pixels,
    readable_on,
    small_print,
    write,
)
from product_cls.data.rendered.shapes.pouch import PILLOW_SEAL, STANDING_SEAL, ZIP
from product_cls.data.rendered.words import Colour

Size = tuple[int, int]
FOIL: Colour = (206, 208, 212)
PILLOW_PRINT: Area = (0.09, PILLOW_SEAL + 0.04, 0.91, 1 - PILLOW_SEAL - 0.02)
STANDING_PRINT: Area = (0.05, ZIP + 0.03, 0.95, 0.93)


def _within(layout: dict[str, Area], area: Area) -> dict[str, Area]:
    """A layout scaled into ``area``; bands that touch an edge extend to the edge of the panel."""
    left, top, right, bottom = area
    width, height = right - left, bottom - top
    moved = {}
    for part, (a, b, c, d) in layout.items():
        moved[part] = (left + a * width, top + b * height, left + c * width, top + d * height)
        if part.endswith("band"):
            upper, lower = moved[part][1], moved[part][3]
            moved[part] = (0, 0 if b == 0 else upper, 1, 1 if d == 1 else lower)
    return moved


def _front(size: Size, product: Product, area: Area) -> Image.Image:
    shape = (area[2] - area[0]) * size[0], (area[3] - area[1]) * size[1]
    layout = _within(layout_of(product, "tall" if shape[1] > 0.9 * shape[0] else "wide"), area)
    return front(size, product, layout)


def _crimp(image: Image.Image, area: Area, colour: Colour, *, upright: bool = False) -> None:
    """Cover ``area`` with a ribbed seal of film in ``colour``."""
    left, top, right, bottom = pixels(image.size, area)
    pitch = max(round(max(image.size) * 0.0125), 3)
    ribs = np.arange(right - left if upright else bottom - top) % pitch < pitch / 2
    levels = np.where(ribs, 1.1, 0.8)
    film = np.clip(np.multiply.outer(levels, np.array(colour)), 0, 255).astype(np.uint8)
    film = film[None] if upright else film[:, None]
    shape = (bottom - top, right - left, 3)
    image.paste(Image.fromarray(np.ascontiguousarray(np.broadcast_to(film, shape))), (left, top))


def _spot(image: Image.Image, product: Product, place: tuple[float, float], share: float) -> None:
    """Food picture on a paper disc, because some pictures have the colour of the background."""
    side = round(min(image.size) * share)
    x, y = round(image.width * place[0]), round(image.height * place[1])
    reach = round(side * 0.64)
    ImageDraw.Draw(image).ellipse((x - reach, y - reach, x + reach, y + reach), PAPER)
    paste_emoji(image, product.taste.emoji, (x, y), side)


def _edges(image: Image.Image, product: Product, top: float, bottom: float) -> None:
    """Stripes in the flavour's and the brand's colour on both sides, visible when seen edge-on."""
    draw = ImageDraw.Draw(image)
    for left, right, colour in (
        (0, 0.035, product.taste.accent),
        (0.035, 0.085, product.base),
        (0.915, 0.965, product.base),
        (0.965, 1, product.taste.accent),
    ):
        draw.rectangle(pixels(image.size, (left, top, right, bottom)), colour)


def _pillow_seals(image: Image.Image, product: Product) -> None:
    colour = FOIL if product.design // 3 % 2 else product.base
    _edges(image, product, PILLOW_SEAL, 1 - PILLOW_SEAL)
    # A strip in the flavour's colour that is also visible from above.
    strip = ImageDraw.Draw(image)
    strip.rectangle(pixels(image.size, (0, 0, 1, PILLOW_SEAL + 0.03)), product.taste.accent)
    _crimp(image, (0, 0, 1, PILLOW_SEAL), colour)
    _crimp(image, (0, 1 - PILLOW_SEAL, 1, 1), colour)


def _pillow_front(size: Size, product: Product) -> Image.Image:
    image = _front(size, product, PILLOW_PRINT)
    _pillow_seals(image, product)
    return image


def _pillow_back(size: Size, product: Product) -> Image.Image:
    image = Image.new("RGB", size, product.base)
    words = readable_on(product.base)
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0.27, 1, 0.3)), product.taste.accent)
    draw.rectangle(pixels(size, (0.1, 0.36, 0.9, 0.88)), PAPER)
    write_brand(image, (0.12, 0.12, 0.47, 0.25), product, words)
    name = "\n".join(product.name_ko.rsplit(" ", 1))
    write(image, (0.56, 0.11, 0.75, 0.25), name, words, bold=0.03)
    _spot(image, product, (0.84, 0.19), 0.12)
    middle = round(0.92 * size[0]), round(0.24 * size[1])
    draw_badge(image, product, middle, round(0.13 * min(size)))
    nutrition(image, (0.13, 0.39, 0.46, 0.68), product)
    small_print(image, (0.57, 0.4, 0.88, 0.68), ingredients(product), INK)
    small_print(image, (0.13, 0.71, 0.46, 0.86), ingredients(product), INK)
    barcode(image, (0.57, 0.71, 0.88, 0.86), product.number)
    # Back seam, folded to one side.
    _crimp(image, (0.485, 0, 0.535, 1), mix_colours(product.base, FOIL, 0.35), upright=True)
    draw.rectangle(pixels(size, (0.535, 0, 0.543, 1)), mix_colours(product.base, INK, 0.5))
    _pillow_seals(image, product)
    return image


def _standing_parts(image: Image.Image, product: Product) -> None:
    """Draw the top seal, the tinted strip, the zip and the gusset at the foot."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    accent = product.taste.accent
    _edges(image, product, 0, 0.86)
    draw.rectangle(pixels(image.size, (0, 0, 1, ZIP + 0.015)), accent)
    _crimp(image, (0, 0, 1, STANDING_SEAL * 0.8), mix_colours(product.base, FOIL, 0.25))
    tear = round(height * STANDING_SEAL * 0.8)
    for left in range(0, width, max(width // 40, 2)):
        draw.line((left, tear, left + max(width // 80, 1), tear), INK, max(height // 200, 1))
    for line, colour in (
        (ZIP, mix_colours(accent, INK, 0.35)),
        (ZIP + 0.007, mix_colours(accent, PAPER, 0.6)),
    ):
        draw.rectangle(pixels(image.size, (0, line - 0.003, 1, line + 0.003)), colour)
    seal = max(height // 150, 1)
    for drop, colour in (
        (0, mix_colours(product.base, INK, 0.3)),
        (seal, mix_colours(product.base, PAPER, 0.4)),
    ):
        box = (-0.05 * width, 0.86 * height + drop, 1.05 * width, 1.03 * height + drop)
        draw.arc(box, 25, 155, colour, seal)


def _standing_front(size: Size, product: Product) -> Image.Image:
    image = _front(size, product, STANDING_PRINT)
    _standing_parts(image, product)
    words = readable_on(product.taste.accent)
    write(image, (0.2, 0.105, 0.8, 0.146), product.taste.korean, words, bold=0.04)
    return image


def _standing_back(size: Size, product: Product) -> Image.Image:
    image = Image.new("RGB", size, mix_colours(PAPER, product.base, 0.06))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0, 1, 0.31)), product.base)
    draw.rectangle(pixels(size, (0, 0.31, 1, 0.33)), product.taste.accent)
    draw.rectangle(pixels(size, (0, 0.92, 1, 1)), product.base)
    words = readable_on(product.base)
    write_brand(image, (0.1, 0.19, 0.64, 0.29), product, words)
    _spot(image, product, (0.8, 0.24), 0.14)
    middle = round(0.86 * size[0]), round(0.28 * size[1])
    draw_badge(image, product, middle, round(0.13 * min(size)))
    write(image, (0.08, 0.35, 0.92, 0.42), product.name_ko, INK, bold=0.03)
    small_print(image, (0.08, 0.44, 0.92, 0.58), ingredients(product), INK)
    nutrition(image, (0.08, 0.6, 0.5, 0.88), product)
    barcode(image, (0.55, 0.7, 0.92, 0.88), product.number)
    write(image, (0.56, 0.61, 0.9, 0.67), product.amount, INK, bold=0.03)
    _standing_parts(image, product)
    return image


PANELS = {
    "pillow front": _pillow_front,
    "pillow back": _pillow_back,
    "standing front": _standing_front,
    "standing back": _standing_back,
}
