"""The catalogue of synthetic products.

The shop is a tree: brand -> line -> flavour -> size or package. Every level has near-duplicates:
lines of a brand share colour and lettering; flavours of a line share the design except for name,
accent colour and food picture; sizes and packages of a flavour differ only in proportions, amount
and a badge.
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
    Package,
    ProductKind,
)

MOST_PRODUCTS = 5000

Names = tuple[int, int, int]  # indices of a line's brand, series and kind

# Smallest RGB distance between accent colours of a line's flavours, while enough flavours differ
# that much. Real flavours differ in colour, which stays visible where name and picture do not.
LEAST_GAP = 100


@dataclass(frozen=True)
class Product:
    """One product of the shop; products with the same ``twin_group`` belong to one line."""

    label: int
    shape: str
    form: str
    size: str  # one of SIZES
    brand: str
    brand_ko: str
    line: str
    name_en: str
    name_ko: str
    flavour: str
    amount: str
    twin_group: int
    kind: ProductKind
    taste: Flavour
    base: Colour
    serif: bool  # whether the brand's lettering has serifs
    design: int  # selects layout and pattern, see panels/
    number: str  # the barcode's 12 digits without the check digit

    @property
    def best_before(self) -> str:
        """Date on lids and fins; the same for a whole line, so it does not identify products."""
        month, day = self.design % 12 + 1, self.design // 12 % 28 + 1
        return f"2028.{month:02d}.{day:02d} 까지"


def _variants(
    rng: np.random.Generator, kind: ProductKind, package: Package
) -> list[tuple[Package, str]]:
    """Packages and sizes available to a line, in order of preference."""
    sizes = [(package, SIZES[place]) for place in rng.permutation((0, 2))]
    others = [(other, "regular") for other in kind.packages if other != package]
    twins = sizes + others if rng.random() < 0.6 else others + sizes
    return [(package, "regular"), *twins]


def _distinct(rng: np.random.Generator, flavours: Sequence[Flavour]) -> list[Flavour]:
    """All flavours in random order; flavours too close in colour to an earlier one come last."""
    first: list[Flavour] = []
    last: list[Flavour] = []
    for place in rng.permutation(len(flavours)):
        flavour = flavours[place]
        gaps = [np.linalg.norm(np.subtract(flavour.accent, other.accent)) for other in first]
        (last if min(gaps, default=np.inf) < LEAST_GAP else first).append(flavour)
    return first + last


def _unused(rng: np.random.Generator, lines: set[Names]) -> tuple[Package, Names]:
    """Package of the next line (cycling through the shelves) and a name no line has yet."""
    for turn in range(len(SHELVES)):
        package = SHELVES[(len(lines) + turn) % len(SHELVES)]
        kinds = [number for number, kind in enumerate(KINDS) if package in kind.packages]
        every = itertools.product(range(len(BRANDS)), range(len(SERIES)), kinds)
        if free := [names for names in every if names not in lines]:
            return package, free[int(rng.integers(len(free)))]
    raise AssertionError(f"all {len(lines)} line names are taken")


def build_catalogue(products: int, seed: int, twins: int) -> list[Product]:
    """First ``products`` products of shop ``seed``; shorter catalogues are prefixes of longer ones.

    Args:
        products: number of products, 1 to ``MOST_PRODUCTS``.
        seed: selects the shop.
        twins: products that share one design, 1 or more. Up to 2 they differ in flavour; from 3
            each flavour comes in 2 sizes or packages, from 9 in 3.
    """
    rng = np.random.default_rng((seed, 0))
    liveries = {
        brand: (BASES[place], bool(rng.integers(2)))
        for (brand, _), place in zip(BRANDS, rng.permutation(len(BASES)), strict=True)
    }
    lines: set[Names] = set()
    catalogue: list[Product] = []
    while len(catalogue) < products:
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
            label = len(catalogue)
            catalogue.append(
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
                    # Prefix 29 is reserved for in-store numbers, so no traded product has it.
                    number=f"29{rng.integers(10**10):010d}",
                )
            )
    return catalogue[:products]
