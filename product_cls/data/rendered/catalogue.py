"""Made-up products.

The shop is a tree: brand -> line -> flavour -> size or package, and every level has near-twins.
Lines of a brand share its colour and lettering; flavours of a line share all of the design but
name, accent colour and food picture; a flavour comes in several sizes or packages that share all
but proportions, amount and a badge.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from product_cls.data.rendered.words import (
    AMOUNTS,
    BASES,
    BRANDS,
    KINDS,
    SERIES,
    SHELVES,
    SIZES,
    Colour,
    Flavour,
    Kind,
    Package,
)

MOST_PRODUCTS = 5000

Names = tuple[int, int, int]  # of a line: which brand, series and kind

# Between the accents of a line's flavours, as a distance of RGB values, as long as there are such:
# flavours in a shop differ in colour, which is seen where name and picture are not.
LEAST_GAP = 100


@dataclass(frozen=True)
class Product:
    """One article of the shop; products of one ``twin_group`` are of one line."""

    label: int
    shape: str
    form: str
    size: str  # of SIZES
    brand: str
    brand_ko: str
    line: str
    name_en: str
    name_ko: str
    flavour: str
    amount: str
    twin_group: int
    kind: Kind
    taste: Flavour
    base: Colour
    serif: bool  # lettering of the brand
    design: int  # which layout and pattern, see panels/
    number: str  # 12 digits of the barcode, without the check digit

    @property
    def best_before(self) -> str:
        """The date on lids and fins; one a line, for it must not tell products apart."""
        month, day = self.design % 12 + 1, self.design // 12 % 28 + 1
        return f"2028.{month:02d}.{day:02d} 까지"


def _variants(rng: np.random.Generator, kind: Kind, package: Package) -> list[tuple[Package, str]]:
    """Packages and sizes in which a line may be had, the ones to choose first at the front."""
    sizes = [(package, SIZES[place]) for place in rng.permutation((0, 2))]
    others = [(other, "regular") for other in kind.packages if other != package]
    twins = sizes + others if rng.random() < 0.6 else others + sizes
    return [(package, "regular"), *twins]


def _distinct(rng: np.random.Generator, flavours: Sequence[Flavour]) -> list[Flavour]:
    """All flavours in an order of chance; those whose colour another has before them come last."""
    first: list[Flavour] = []
    last: list[Flavour] = []
    for place in rng.permutation(len(flavours)):
        flavour = flavours[place]
        gaps = [np.linalg.norm(np.subtract(flavour.accent, one.accent)) for one in first]
        (last if min(gaps, default=np.inf) < LEAST_GAP else first).append(flavour)
    return first + last


def _unused(rng: np.random.Generator, lines: set[Names]) -> tuple[Package, Names]:
    """The package of the next line, shelf by shelf, and names that no line has yet."""
    for turn in range(len(SHELVES)):
        package = SHELVES[(len(lines) + turn) % len(SHELVES)]
        kinds = [number for number, kind in enumerate(KINDS) if package in kind.packages]
        every = itertools.product(range(len(BRANDS)), range(len(SERIES)), kinds)
        if free := [names for names in every if names not in lines]:
            return package, free[int(rng.integers(len(free)))]
    raise AssertionError(f"{len(lines)} lines are all there are")


def build_catalogue(products: int, seed: int, twins: int) -> list[Product]:
    """The first ``products`` articles of shop ``seed``; a longer list begins with a shorter.

    ``twins`` (1 or more) products have one design: up to 2 of other flavours, beyond that each
    flavour in 2 sizes or packages, beyond 8 in 3.
    """
    rng = np.random.default_rng((seed, 0))
    liveries = {
        brand: (BASES[place], bool(rng.integers(2)))
        for (brand, _), place in zip(BRANDS, rng.permutation(len(BASES)), strict=True)
    }
    lines: set[Names] = set()
    made: list[Product] = []
    while len(made) < products:
        line = len(lines)
        package, names = _unused(rng, lines)
        lines.add(names)
        (brand, brand_ko), (series, series_ko) = BRANDS[names[0]], SERIES[names[1]]
        kind = KINDS[names[2]]
        base, serif = liveries[brand]
        design = int(rng.integers(1 << 16))
        variants = _variants(rng, kind, package)[: 1 if twins <= 2 else 2 if twins <= 8 else 3]
        tastes = _distinct(rng, kind.flavours)[: -(-twins // len(variants))]
        members = [(taste, *variant) for taste in tastes for variant in variants]
        for taste, (shape, form), size in members[:twins]:
            label = len(made)
            made.append(
                Product(
                    label=label,
                    shape=shape,
                    form=form,
                    size=size,
                    brand=brand,
                    brand_ko=brand_ko,
                    line=f"{series} {kind.english}",
                    name_en=f"{series} {taste.english} {kind.english}",
                    name_ko=f"{series_ko} {taste.korean} {kind.korean}",
                    flavour=taste.english,
                    amount=f"{round(kind.amount * AMOUNTS[size] / 5) * 5} {kind.unit}",
                    twin_group=line,
                    kind=kind,
                    taste=taste,
                    base=base,
                    serif=serif,
                    design=design,
                    # 29 is for numbers that shops give themselves: no article in a trade has it.
                    number=f"29{rng.integers(10**10):010d}",
                )
            )
    return made[:products]
