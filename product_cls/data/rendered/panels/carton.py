"""Body, roof, folded sides and fin of a milk carton."""

import numpy as np
from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import (
    front,
    ingredients,
    layout_of,
    write_brand,
)
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    barcode,
    mix_colours,
    nutrition,
    paste_emoji,
    pattern,
    pixels,
    readable_on,
    small_print,
    write,
)

Size = tuple[int, int]


def _front(size: Size, product: Product) -> Image.Image:
    """Front and back, which are the same on cartons."""
    layout = layout_of(product, "tall")
    return front(size, product, layout)


def _left(size: Size, product: Product) -> Image.Image:
    image = Image.new("RGB", size, mix_colours(PAPER, product.base, 0.06))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0, 1, 0.2)), product.taste.accent)
    words = "\n".join(product.name_ko.split())
    write(image, (0.08, 0.02, 0.92, 0.18), words, readable_on(product.taste.accent), bold=0.03)
    small_print(image, (0.08, 0.23, 0.92, 0.4), ingredients(product), INK)
    nutrition(image, (0.12, 0.43, 0.88, 0.74), product)
    barcode(image, (0.14, 0.78, 0.86, 0.96), product.number)
    return image


def _right(size: Size, product: Product) -> Image.Image:
    accent = product.taste.accent
    image = pattern(size, product.design // 7, accent, mix_colours(accent, PAPER, 0.15))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0, 1, 0.18)), product.base)
    write_brand(image, (0.08, 0.04, 0.92, 0.15), product, readable_on(product.base))
    centre, side = (size[0] // 2, round(size[1] * 0.34)), round(min(size[0], size[1] * 0.36) * 0.72)
    paste_emoji(image, product.taste.emoji, centre, side)
    words = "\n".join(product.name_ko.split())
    write(image, (0.08, 0.5, 0.92, 0.7), words, readable_on(accent), bold=0.04)
    draw.rectangle(pixels(size, (0.08, 0.73, 0.92, 0.97)), PAPER)
    small_print(image, (0.13, 0.75, 0.88, 0.87), ingredients(product), INK)
    write(image, (0.13, 0.87, 0.87, 0.95), product.amount, INK, bold=0.03)
    return image


def _roof(size: Size, product: Product) -> Image.Image:
    """Brand above a band with the flavour; the part that a camera above sees best."""
    base, accent = product.base, product.taste.accent
    image = Image.new("RGB", size, base)
    ImageDraw.Draw(image).rectangle(pixels(size, (0, 0.5, 1, 1)), accent)
    edge = max(size[1] // 40, 1)
    middle = round(0.5 * size[1])
    ImageDraw.Draw(image).rectangle((0, middle - edge, size[0], middle), PAPER)
    write_brand(image, (0.08, 0.08, 0.92, 0.44), product, readable_on(base))  # fmt: skip
    x, y, side = round(size[0] * 0.2), round(size[1] * 0.75), round(size[1] * 0.32)
    reach = round(side * 0.62)
    ImageDraw.Draw(image).ellipse((x - reach, y - reach, x + reach, y + reach), PAPER)
    paste_emoji(image, product.taste.emoji, (x, y), side)
    words = f"{product.taste.korean}\n{product.taste.english}"
    write(image, (0.38, 0.55, 0.95, 0.95), words, readable_on(accent), bold=0.03)
    return image


def _gusset(size: Size, product: Product) -> Image.Image:
    """The folded side: a visible triangle that darkens towards its hidden tip."""
    width, height = size
    base, accent = product.base, product.taste.accent
    image = Image.new(
        "RGB", size, mix_colours(base, INK, 0.25)
    )  # underside of the roof, on both sides
    ImageDraw.Draw(image).polygon(((0, height), (width // 2, 0), (width, height)), accent)
    paste_emoji(image, product.taste.emoji, (width // 2, round(height * 0.7)), round(height * 0.36))
    dim = np.linspace(0.55, 1.0, height)[:, None, None]
    return Image.fromarray((np.asarray(image) * dim).astype(np.uint8))


def _fin(size: Size, product: Product) -> Image.Image:
    image = Image.new("RGB", size, mix_colours(PAPER, product.base, 0.1))
    ImageDraw.Draw(image).rectangle(pixels(size, (0, 0.7, 1, 1)), product.base)
    write(image, (0.3, 0.14, 0.7, 0.62), product.best_before, INK)
    return image


PANELS = {
    "carton front": _front,
    "carton back": _front,
    "carton left": _left,
    "carton right": _right,
    "carton roof front": _roof,
    "carton roof back": _roof,
    "carton gusset": _gusset,
    "carton fin": _fin,
}
