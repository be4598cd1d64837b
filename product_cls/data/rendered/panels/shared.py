"""Parts of fronts and backs shared by all packages."""

import math

from PIL import Image, ImageDraw

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels.layouts import LAYOUTS
from product_cls.data.rendered.printing import (
    INK,
    PAPER,
    Area,
    mix_colours,
    on_paper,
    paste_emoji,
    pattern,
    pixels,
    readable_on,
    write,
)
from product_cls.data.rendered.words import Colour

BADGES: dict[str, Colour] = {"small": (24, 96, 200), "large": (226, 30, 44)}  # by size


def is_dark(product: Product, layout: dict[str, Area]) -> bool:
    """Whether the background has the base colour; never if a band has that colour."""
    return product.design // 6 % 2 == 1 and "base band" not in layout


def background(size: tuple[int, int], product: Product, layout: dict[str, Area]) -> Image.Image:
    pale = mix_colours(PAPER, product.base, 0.12)
    dark = is_dark(product, layout)
    first = product.base if dark else pale
    second = mix_colours(first, PAPER if dark else product.base, 0.16)
    image = pattern(size, product.design, first, second)
    draw = ImageDraw.Draw(image)
    for band, colour in (("base band", product.base), ("accent band", product.taste.accent)):
        if band in layout:
            left, top, right, bottom = pixels(size, layout[band])
            draw.rectangle((left, top, right, bottom), colour)
            edge = max(size[1] // 90, 1)
            for y in (top, bottom):
                draw.rectangle((left, y - edge, right, y), mix_colours(colour, PAPER, 0.7))
    return image


def layout_of(product: Product, proportions: str) -> dict[str, Area]:
    """Layout of the product's line for a ``tall`` or ``wide`` front."""
    choices = LAYOUTS[proportions]
    return choices[product.design // 12 % len(choices)]


def draw_front(image: Image.Image, product: Product, layout: dict[str, Area]) -> None:
    """Draw brand, names, food picture and flavour onto a background."""
    taste = product.taste
    ground = product.base if is_dark(product, layout) else PAPER
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
        (0.8, mix_colours(taste.accent, PAPER, 0.75)),
    ):
        reach = round(half * share)
        draw.ellipse([*(c - reach for c in centre), *(c + reach for c in centre)], colour)
    paste_emoji(image, taste.emoji, centre, round(half * 1.25))
    offset = round(half * 0.66)
    paste_emoji(
        image, product.kind.emoji, (centre[0] + offset, centre[1] + offset), round(half * 0.6)
    )

    draw_badge(image, product, centre, half)

    left, top, right, bottom = pixels(image.size, layout["ribbon"])
    draw.rounded_rectangle((left, top, right, bottom), (bottom - top) // 3, taste.accent, PAPER, 2)
    ribbon = layout["ribbon"]
    inset = (ribbon[2] - ribbon[0]) * 0.08, (ribbon[3] - ribbon[1]) * 0.2
    inner = (ribbon[0] + inset[0], ribbon[1] + inset[1], ribbon[2] - inset[0], ribbon[3] - inset[1])
    caption = f"{taste.korean} {taste.english.upper()}"
    write(image, inner, caption, readable_on(taste.accent), bold=0.02)

    plain = colour_at("brand")
    brand = on_paper(product.base) if plain == PAPER else readable_on(plain)
    write_brand(image, layout["brand"], product, brand)
    write(image, layout["brand_ko"], product.brand_ko, brand, bold=0.02)
    name = "\n".join(product.name_ko.rsplit(" ", 1))
    write(image, layout["korean"], name, readable_on(colour_at("korean")), bold=0.03)
    write(image, layout["english"], product.name_en, readable_on(colour_at("english")), bold=0.015)


def front(size: tuple[int, int], product: Product, layout: dict[str, Area]) -> Image.Image:
    """Draw a complete front with its background."""
    image = background(size, product, layout)
    draw_front(image, product, layout)
    return image


def write_brand(image: Image.Image, area: Area, product: Product, colour: Colour) -> None:
    """Write the brand in its own lettering, which is the same on all its packages."""
    write(image, area, product.brand, colour, serif=product.serif, bold=0.05)


def draw_badge(image: Image.Image, product: Product, centre: tuple[int, int], half: int) -> None:
    """Draw the amount at the upper left of the food picture, in a star on small and large sizes."""
    x, y = centre[0] - round(half * 0.72), centre[1] - round(half * 0.62)
    words = {"small": "MINI\n미니\n", "regular": "", "large": "BIG\n대용량\n"}[product.size]
    if words:
        colour = BADGES[product.size]
        reach = half * 0.5
        star = [
            (
                x + reach * (1 - 0.16 * (point % 2)) * math.cos(math.pi * point / 12),
                y + reach * (1 - 0.16 * (point % 2)) * math.sin(math.pi * point / 12),
            )
            for point in range(24)
        ]
        ImageDraw.Draw(image).polygon(star, colour, PAPER)
        ink = readable_on(colour)
    else:
        reach, ink = half * 0.3, INK
        box = (x - reach, y - reach * 0.5, x + reach, y + reach * 0.5)
        ImageDraw.Draw(image).rounded_rectangle(box, reach * 0.4, PAPER)
    width, height = image.size
    share_x, share_y = reach * 0.7 / width, reach * (0.62 if words else 0.4) / height
    area = (x / width - share_x, y / height - share_y, x / width + share_x, y / height + share_y)
    write(image, area, words + product.amount, ink, bold=0.03)


def ingredients(product: Product) -> str:
    return (
        f"{product.name_ko} · 내용량 {product.amount} · "
        f"원재료명: {product.taste.korean} 12%, 밀가루, 정제수, 설탕, 식염, 향료 · "
        f"{product.brand_ko}식품 · 직사광선을 피해 서늘한 곳에 보관하십시오. "
    )
