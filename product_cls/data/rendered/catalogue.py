"""Made-up products, and the list of pictures that is taken of them.

A product line is a brand, a kind of food, a series and a form of package. Its products share all of
the design but the flavour: they are near-twins, told apart by name, accent colour and food picture.
Names are invented; none is meant to be a real brand.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from product_cls.data.rendered.geometry import PITCHES

Colour = tuple[int, int, int]  # RGB, 0 to 255
Area = tuple[float, float, float, float]  # left, top, right, bottom as shares of a panel

MOST_PRODUCTS = 5000  # about three quarters of the lines that the words below give
LINE_SIZES = (2, 3, 4)  # products of successive lines

TRAIN_PITCHES, TEST_PITCHES = PITCHES[:2], PITCHES


class Flavour(NamedTuple):
    english: str
    korean: str
    emoji: str
    accent: Colour


FRUIT = (
    Flavour("Strawberry", "딸기", "🍓", (222, 44, 72)),
    Flavour("Blueberry", "블루베리", "🫐", (72, 92, 190)),
    Flavour("Banana", "바나나", "🍌", (244, 200, 52)),
    Flavour("Grape", "포도", "🍇", (128, 60, 160)),
    Flavour("Peach", "복숭아", "🍑", (250, 150, 122)),
    Flavour("Lemon", "레몬", "🍋", (238, 214, 40)),
    Flavour("Green Apple", "청사과", "🍏", (126, 188, 52)),
    Flavour("Orange", "오렌지", "🍊", (246, 136, 28)),
    Flavour("Melon", "멜론", "🍈", (160, 205, 120)),
    Flavour("Mango", "망고", "🥭", (250, 172, 44)),
    Flavour("Cherry", "체리", "🍒", (176, 22, 52)),
    Flavour("Kiwi", "키위", "🥝", (110, 150, 46)),
)
SWEET = (
    Flavour("Chocolate", "초콜릿", "🍫", (110, 66, 44)),
    Flavour("Honey", "벌꿀", "🍯", (240, 176, 40)),
    Flavour("Milk", "우유", "🥛", (120, 180, 226)),
    Flavour("Chestnut", "밤", "🌰", (150, 96, 62)),
    Flavour("Peanut", "땅콩", "🥜", (206, 154, 88)),
    Flavour("Sweet Potato", "고구마", "🍠", (160, 62, 110)),
    Flavour("Strawberry", "딸기", "🍓", (222, 44, 72)),
    Flavour("Green Tea", "녹차", "🍵", (104, 150, 76)),
    Flavour("Coconut", "코코넛", "🥥", (126, 110, 96)),
    Flavour("Corn", "옥수수", "🌽", (242, 196, 40)),
)
SAVOURY = (
    Flavour("Shrimp", "새우", "🦐", (240, 110, 84)),
    Flavour("Hot Pepper", "매운고추", "🌶", (206, 28, 36)),
    Flavour("Corn", "옥수수", "🌽", (242, 196, 40)),
    Flavour("Cheese", "치즈", "🧀", (250, 184, 40)),
    Flavour("Garlic", "마늘", "🧄", (176, 160, 150)),
    Flavour("Mushroom", "버섯", "🍄", (176, 70, 66)),
    Flavour("Beef", "소고기", "🥩", (160, 50, 62)),
    Flavour("Chicken", "닭고기", "🍗", (202, 128, 62)),
    Flavour("Crab", "게살", "🦀", (222, 58, 48)),
    Flavour("Tomato", "토마토", "🍅", (220, 50, 44)),
    Flavour("Broccoli", "브로콜리", "🥦", (82, 146, 66)),
    Flavour("Carrot", "당근", "🥕", (244, 136, 42)),
    Flavour("Squid", "오징어", "🦑", (196, 96, 130)),
)


class Kind(NamedTuple):
    english: str
    korean: str
    emoji: str
    amount: str
    flavours: tuple[Flavour, ...]


PACKAGES: dict[tuple[str, str], tuple[Kind, ...]] = {  # by (shape, form) of geometry.FORMS
    ("box", "tall"): (
        Kind("Cereal", "시리얼", "🥣", "420 g", SWEET),
        Kind("Cookies", "쿠키", "🍪", "160 g", SWEET),
        Kind("Crackers", "크래커", "🍘", "130 g", SAVOURY),
        Kind("Pancake Mix", "팬케이크 가루", "🥞", "500 g", FRUIT),
    ),
    ("can", "drink"): (
        Kind("Soda", "소다", "🥤", "355 ml", FRUIT),
        Kind("Juice", "주스", "🧃", "340 ml", FRUIT),
        Kind("Latte", "라떼", "☕", "240 ml", SWEET),
    ),
    ("box", "wide"): (
        Kind("Curry", "카레", "🍛", "200 g", SAVOURY),
        Kind("Dumplings", "만두", "🥟", "450 g", SAVOURY),
        Kind("Cake Bites", "한입케이크", "🍰", "180 g", FRUIT),
        Kind("Fried Rice", "볶음밥", "🍚", "270 g", SAVOURY),
    ),
    ("can", "food"): (
        Kind("Soup", "수프", "🍲", "400 g", SAVOURY),
        Kind("Stew", "찌개", "🥘", "380 g", SAVOURY),
        Kind("Pudding", "푸딩", "🍮", "300 g", FRUIT),
    ),
}
SERIES = (
    ("Classic", "클래식"), ("Golden", "황금"), ("Real", "진짜"), ("Daily", "매일"),
    ("Deep", "진한"), ("Little", "작은"), ("Fresh", "산뜻"), ("Village", "시골"),
    ("Moonlight", "달빛"), ("Royal", "로얄"),
)  # fmt: skip
BRANDS = (
    ("NARUBI", "나루비"), ("OKSOLEE", "옥솔이"), ("DALMORE", "달모레"), ("TOBARIN", "토바린"),
    ("MIRUENA", "미루에나"), ("HASOOLA", "하술라"), ("PODONGI", "포동이"), ("SEBYEOL", "세별"),
    ("KONGMARU", "콩마루"), ("YEORUM", "여룸"), ("GARAMTO", "가람토"), ("BOMDURE", "봄두레"),
    ("JANDIE", "잔디에"), ("NOEULPO", "노을포"), ("SANSUYA", "산수야"), ("ARAMBI", "아람비"),
    ("DURUMAE", "두루매"), ("CHORONGA", "초롱가"), ("MOKHWARA", "목화라"), ("PIEUNSAE", "피은새"),
    ("TTORIM", "또림"), ("BARAMGOL", "바람골"), ("NABIRO", "나비로"), ("SOLBATH", "솔밭들"),
)  # fmt: skip
BASES: tuple[Colour, ...] = (
    (196, 32, 44), (18, 82, 160), (20, 118, 84), (240, 180, 32), (98, 52, 132), (230, 104, 32),
    (36, 44, 66), (16, 142, 160), (206, 70, 128), (122, 76, 46), (112, 158, 46), (60, 120, 200),
)  # fmt: skip


# Where the parts of a front go. Bands (top, bottom, in the accent colour or the base colour) run
# round a can's whole label; the rest is repeated wherever a front is.
LAYOUTS: dict[str, tuple[dict[str, Area], ...]] = {
    "tall": (
        {
            "base band": (0, 0, 1, 0.24), "brand": (0.08, 0.03, 0.92, 0.16),
            "brand_ko": (0.3, 0.16, 0.7, 0.22), "korean": (0.06, 0.27, 0.94, 0.42),
            "english": (0.08, 0.42, 0.92, 0.48), "picture": (0.14, 0.48, 0.86, 0.87),
            "ribbon": (0.0, 0.88, 1, 0.97),
        },
        {
            "accent band": (0, 0.6, 1, 0.86), "brand": (0.1, 0.05, 0.9, 0.15),
            "brand_ko": (0.3, 0.15, 0.7, 0.2), "picture": (0.16, 0.2, 0.84, 0.58),
            "korean": (0.06, 0.62, 0.94, 0.77), "english": (0.08, 0.78, 0.92, 0.84),
            "ribbon": (0.2, 0.885, 0.8, 0.96),
        },
        {
            "base band": (0, 0.72, 1, 1), "korean": (0.06, 0.04, 0.94, 0.2),
            "english": (0.08, 0.2, 0.92, 0.26), "ribbon": (0.12, 0.275, 0.88, 0.345),
            "picture": (0.12, 0.35, 0.88, 0.76), "brand": (0.07, 0.79, 0.93, 0.91),
            "brand_ko": (0.3, 0.915, 0.7, 0.97),
        },
    ),
    "wide": (
        {
            "base band": (0, 0, 1, 0.28), "brand": (0.05, 0.05, 0.62, 0.22),
            "brand_ko": (0.66, 0.09, 0.95, 0.2), "korean": (0.04, 0.33, 0.57, 0.6),
            "english": (0.04, 0.61, 0.57, 0.71), "ribbon": (0.04, 0.76, 0.5, 0.9),
            "picture": (0.58, 0.26, 0.98, 0.96),
        },
        {
            "accent band": (0, 0.7, 1, 1), "picture": (0.02, 0.06, 0.44, 0.8),
            "brand": (0.46, 0.06, 0.96, 0.24), "brand_ko": (0.56, 0.25, 0.86, 0.34),
            "korean": (0.45, 0.38, 0.97, 0.66), "english": (0.45, 0.74, 0.97, 0.84),
            "ribbon": (0.55, 0.86, 0.87, 0.97),
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One article of the shop; products of one ``twin_group`` differ in flavour only."""

    label: int
    shape: str
    form: str
    brand: str
    brand_ko: str
    name_en: str
    name_ko: str
    flavour: str
    twin_group: int
    kind: Kind
    taste: Flavour
    base: Colour
    design: int  # which layout and pattern, see artwork.py
    number: str  # 12 digits of the barcode, without the check digit


def build_catalogue(products: int, seed: int) -> list[Product]:
    """The first ``products`` articles of shop ``seed``; a longer list begins with a shorter."""
    rng = np.random.default_rng((seed, 0))
    packages = list(PACKAGES)
    lines: set[tuple[int, ...]] = set()
    made: list[Product] = []
    while len(made) < products:
        line = len(lines)
        shape, form = packages[line % len(packages)]
        kinds = PACKAGES[shape, form]
        while len(lines) == line:
            names = tuple(int(rng.integers(len(words))) for words in (BRANDS, SERIES, kinds))
            lines.add((line % len(packages), *names))
        (brand, brand_ko), (series, series_ko) = BRANDS[names[0]], SERIES[names[1]]
        kind, base = kinds[names[2]], BASES[int(rng.integers(len(BASES)))]
        design = int(rng.integers(1 << 16))
        size = LINE_SIZES[line % len(LINE_SIZES)]
        for choice in rng.permutation(len(kind.flavours))[:size]:
            taste, label = kind.flavours[choice], len(made)
            made.append(
                Product(
                    label=label,
                    shape=shape,
                    form=form,
                    brand=brand,
                    brand_ko=brand_ko,
                    name_en=f"{series} {taste.english} {kind.english}",
                    name_ko=f"{series_ko} {taste.korean} {kind.korean}",
                    flavour=taste.english,
                    twin_group=line,
                    kind=kind,
                    taste=taste,
                    base=base,
                    design=design,
                    # 29 is for numbers that shops give themselves: no article in a trade has it.
                    number=f"29{line:05d}{label:05d}",
                )
            )
    return made[:products]


class View(NamedTuple):
    """One picture of the set; ``number`` counts within the label and split."""

    id: str
    label: int
    roll: float
    pitch: float
    split: str
    number: int


def list_views(products: int, rolls: int, seed: int) -> Iterator[View]:
    """All pictures of a set: training by label, then test, whose files are numbered in an order
    shuffled by ``seed`` so that a file name gives nothing away. Test rolls lie half a step off."""
    step = 360 / rolls
    for label in range(products):
        for number in range(len(TRAIN_PITCHES) * rolls):
            pitch, roll = TRAIN_PITCHES[number // rolls], number % rolls * step
            yield View(f"train/{label}/{number}.jpg", label, roll, pitch, "train", number)
    each = len(TEST_PITCHES) * rolls
    order = np.random.default_rng((seed, 1)).permutation(products * each)
    for file, place in enumerate(order.tolist()):
        label, number = divmod(place, each)
        pitch, roll = TEST_PITCHES[number // rolls], (number % rolls + 0.5) * step
        yield View(f"test/{file}.jpg", label, roll, pitch, "test", number)


def write_tables(out: Path, catalogue: list[Product], views: list[View]) -> None:
    """``views.csv`` and ``catalogue.csv``, and ``sample.csv`` as a competitor would get it."""
    columns = ("label", "shape", "form", "brand", "name_en", "name_ko", "flavour", "twin_group")
    tables: dict[str, list[tuple[object, ...]]] = {
        "views.csv": [View._fields[:5], *(view[:5] for view in views)],
        "catalogue.csv": [columns, *(tuple(getattr(p, c) for c in columns) for p in catalogue)],
        "sample.csv": [
            ("filename", "prediction"),
            *((Path(view.id).name, 0) for view in views if view.split == "test"),
        ],
    }
    for name, rows in tables.items():
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


EAN_LEFT = (
    "0001101", "0011001", "0010011", "0111101", "0100011",
    "0110001", "0101111", "0111011", "0110111", "0001011",
)  # fmt: skip
EAN_PARITY = "LLGGLG"  # of numbers that begin with 2, as all of the catalogue's do


def ean13(number: str) -> tuple[str, str]:
    """13 digits and 95 bars (1 is black) of a 12 digit number that begins with 2 (GS1 General
    Specifications, section 5.2)."""
    check = -sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(number)) % 10
    digits = [int(d) for d in number] + [check]
    swap = str.maketrans("01", "10")
    bars = "101"
    for digit, parity in zip(digits[1:7], EAN_PARITY, strict=True):
        code = EAN_LEFT[digit]
        bars += code if parity == "L" else code.translate(swap)[::-1]
    bars += "01010" + "".join(EAN_LEFT[d].translate(swap) for d in digits[7:]) + "101"
    return f"{number}{check}", bars
