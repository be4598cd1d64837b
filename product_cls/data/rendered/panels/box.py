"""The six sides of a box."""

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


def _front_panel(size: tuple[int, int], product: Product) -> Image.Image:
    layout = layout_of(product, "tall" if size[1] > size[0] else "wide")
    return front(size, product, layout)


def _back_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, mix_colours(PAPER, product.base, 0.06))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0, 1, 0.15)), product.base)
    draw.rectangle(pixels(size, (0, 0.15, 1, 0.18)), product.taste.accent)
    write_brand(image, (0.1, 0.03, 0.9, 0.13), product, readable_on(product.base))
    write(image, (0.06, 0.2, 0.66, 0.29), product.name_ko, INK, bold=0.03)
    small_print(image, (0.06, 0.31, 0.62, 0.52), ingredients(product), INK)
    left, top, right, bottom = pixels(size, (0.66, 0.2, 0.96, 0.52))
    side = min(right - left, bottom - top)
    centre = ((left + right) // 2, (top + bottom) // 2)
    paste_emoji(image, product.taste.emoji, centre, side)
    draw_badge(image, product, centre, side // 2)
    nutrition(image, (0.06, 0.56, 0.5, 0.95), product)
    barcode(image, (0.55, 0.7, 0.95, 0.94), product.number)
    return image


def _left_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, product.base)
    turned = Image.new("RGB", (size[1] * 3 // 5, size[0]), product.base)
    write_brand(turned, (0.06, 0.15, 0.94, 0.6), product, readable_on(product.base))
    write(turned, (0.06, 0.62, 0.94, 0.9), product.name_ko, readable_on(product.base), bold=0.02)
    image.paste(turned.transpose(Image.Transpose.ROTATE_90), (0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle(pixels(size, (0, 0.58, 1, 1)), product.taste.accent)
    side = min(round(size[0] * 0.7), round(size[1] * 0.24))
    paste_emoji(image, product.taste.emoji, (size[0] // 2, round(size[1] * 0.71)), side)
    draw.rectangle(pixels(size, (0.08, 0.84, 0.92, 0.97)), PAPER)
    small_print(image, (0.13, 0.85, 0.88, 0.96), ingredients(product), INK)
    return image


def _right_panel(size: tuple[int, int], product: Product) -> Image.Image:
    accent = product.taste.accent
    image = pattern(size, product.design // 7, accent, mix_colours(accent, PAPER, 0.15))
    centre, side = (size[0] // 2, round(size[1] * 0.2)), round(min(size) * 0.72)
    paste_emoji(image, product.taste.emoji, centre, min(side, round(size[1] * 0.32)))
    words = "\n".join(product.name_ko.split())
    write(image, (0.08, 0.38, 0.92, 0.62), words, readable_on(accent), bold=0.04)
    ImageDraw.Draw(image).rectangle(pixels(size, (0.08, 0.66, 0.92, 0.96)), PAPER)
    small_print(image, (0.13, 0.68, 0.88, 0.82), ingredients(product), INK)
    write(image, (0.13, 0.84, 0.87, 0.94), product.amount, INK, bold=0.03)
    return image


def _top_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, product.base)
    ImageDraw.Draw(image).rectangle(pixels(size, (0, 0.8, 1, 1)), product.taste.accent)
    side = round(size[1] * 0.6)
    paste_emoji(image, product.taste.emoji, (round(size[0] * 0.12), round(size[1] * 0.42)), side)
    words = readable_on(product.base)
    write_brand(image, (0.24, 0.08, 0.96, 0.5), product, words)
    write(image, (0.24, 0.5, 0.96, 0.76), product.name_ko, words, bold=0.02)
    return image


def _bottom_panel(size: tuple[int, int], product: Product) -> Image.Image:
    image = Image.new("RGB", size, mix_colours(PAPER, product.base, 0.25))
    write_brand(image, (0.3, 0.3, 0.7, 0.6), product, INK)
    return image


PANELS = {
    "front": _front_panel,
    "back": _back_panel,
    "left": _left_panel,
    "right": _right_panel,
    "top": _top_panel,
    "bottom": _bottom_panel,
}
