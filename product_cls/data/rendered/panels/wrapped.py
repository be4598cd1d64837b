"""Labels wrapped around cans, bottles and cups."""

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.shared import (
    background,
    draw_front,
    ingredients,
    is_dark,
    write_brand,
)
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    Area,
    barcode,
    nutrition,
    on_paper,
    paste_emoji,
    pixels,
    readable_on,
    small_print,
    write,
)

Layout = dict[str, Area]


def _half_turn(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), image.width // 2, axis=1))


def mirrored_background(size: tuple[int, int], product: Product, layout: Layout) -> Image.Image:
    """The pattern in front and its mirror image behind, which joins without a seam."""
    width, height = size
    half = background((width // 2, height), product, layout)
    image = Image.new("RGB", size)
    left = width // 4
    # Painted from the front outwards, so that odd widths leave no empty column.
    image.paste(ImageOps.mirror(half), (left - half.width, 0))
    image.paste(ImageOps.mirror(half), (left + half.width, 0))
    image.paste(half, (left, 0))
    return image


def wrap(
    image: Image.Image, product: Product, layout: Layout, share: float, *, fronts: int
) -> Image.Image:
    """Print a label on its background.

    Args:
        share: fraction of the width taken by a front.
        fronts: 2 for opposite fronts, 1 for one front and a back with the small print.
    """
    size = image.size
    narrow = {
        part: (0.5 + (left - 0.5) * share, top, 0.5 + (right - 0.5) * share, bottom)
        for part, (left, top, right, bottom) in layout.items()
    }
    draw_front(image, product, narrow)
    image = _half_turn(image)
    if fronts == 2:
        draw_front(image, product, narrow)
    else:
        brand = readable_on(product.base) if is_dark(product, layout) else on_paper(product.base)
        if "base band" in layout:
            brand = readable_on(product.base)
        write_brand(image, (0.34, 0.06, 0.66, 0.24), product, brand)
        ImageDraw.Draw(image).rectangle(pixels(size, (0.34, 0.32, 0.66, 0.94)), PAPER)
        small_print(image, (0.35, 0.35, 0.54, 0.92), ingredients(product), INK)
        centre = (round(size[0] * 0.6), round(size[1] * 0.63))
        paste_emoji(image, product.taste.emoji, centre, round(size[1] * 0.42))
    nutrition(image, (0.18, 0.28, 0.3, 0.72), product)
    barcode(image, (0.7, 0.4, 0.82, 0.68), product.number)
    for middle in (0.24, 0.76):
        _flavour_mark(image, product, middle)
    return _half_turn(image)


def _flavour_mark(image: Image.Image, product: Product, middle: float) -> None:
    """Draw food picture, flavour and amount between front and back.

    As on real labels, the product can be identified from every side.
    """
    width, height = image.size
    centre, reach = (round(middle * width), round(0.14 * height)), round(0.11 * height)
    draw = ImageDraw.Draw(image)
    box = [*(at - reach for at in centre), *(at + reach for at in centre)]
    draw.ellipse(box, PAPER, product.taste.accent, max(reach // 6, 1))
    paste_emoji(image, product.taste.emoji, centre, round(1.4 * reach))
    area = (middle - 0.08, 0.76, middle + 0.08, 0.9)
    draw.rectangle(pixels(image.size, area), product.taste.accent)
    words = f"{product.taste.korean}\n{product.amount}"
    inner = (area[0] + 0.005, area[1] + 0.01, area[2] - 0.005, area[3] - 0.01)
    write(image, inner, words, readable_on(product.taste.accent), bold=0.03)
