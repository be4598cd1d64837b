"""The made-up shop: a tree of near-twins, and the pictures taken of it."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from product_cls.data.rendered import build_catalogue
from product_cls.data.rendered.difficulty import PRESETS, choose_knobs
from product_cls.data.rendered.printing import ean13
from product_cls.data.rendered.shapes import FORMS
from product_cls.data.rendered.views import list_views
from product_cls.data.rendered.words import KINDS, SIZES


def test_test_rolls_lie_between_training_rolls() -> None:
    views = list(list_views(products=3, rolls=24, seed=0))
    rolls = {split: {v.roll for v in views if v.split == split} for split in ("train", "test")}
    assert rolls["train"] == {15.0 * n for n in range(24)}
    assert rolls["test"] == {15.0 * n + 7.5 for n in range(24)}
    assert len([v for v in views if v.label == 0 and v.split == "train"]) == 48
    assert len([v for v in views if v.label == 0 and v.split == "test"]) == 72
    # The order of the test files must not give the label away.
    first = [v.label for v in views if v.split == "test"][:72]
    assert len(set(first)) == 3


def test_shop_is_a_tree_with_twins_at_every_level() -> None:
    products = build_catalogue(1000, seed=0, twins=4)
    lines: dict[int, list[Any]] = {}
    for product in products:
        lines.setdefault(product.twin_group, []).append(product)
    for line in lines.values():
        assert len(line) == 4
        assert len({(p.brand, p.line, p.base, p.design) for p in line}) == 1
        flavours = {p.flavour for p in line}
        variants = {(p.shape, p.form, p.size) for p in line}
        assert len(flavours) == 2 and len(variants) == 2
        assert {(p.flavour, p.form, p.size) for p in line} == {
            (flavour, form, size) for flavour in flavours for _, form, size in variants
        }
    sizes = [len({p.size for p in line}) == 2 for line in lines.values()]
    packages = [len({(p.shape, p.form) for p in line}) == 2 for line in lines.values()]
    assert sum(sizes) > 50 and sum(packages) > 50
    by_brand: dict[str, set[str]] = {}
    for product in products:
        by_brand.setdefault(product.brand, set()).add(product.line)
    assert min(map(len, by_brand.values())) > 1  # brands have several lines


def test_every_shop_fills_its_shelves_to_the_limit() -> None:
    for twins in (1, 2, 24):
        products = build_catalogue(5000, seed=0, twins=twins)
        names = {(p.brand, p.name_en, p.shape, p.form, p.size) for p in products}
        assert len(products) == len(names) == len({p.number for p in products}) == 5000


def test_flavours_of_a_line_differ_in_colour() -> None:
    lines: dict[int, set[Any]] = {}
    for product in build_catalogue(400, seed=0, twins=4):
        lines.setdefault(product.twin_group, set()).add(product.taste.accent)
    for accents in lines.values():
        first, second = (np.array(accent) for accent in accents)
        assert np.linalg.norm(first - second) >= 100


def test_what_is_printed_gives_no_label_away() -> None:
    line = build_catalogue(4, seed=0, twins=4)
    assert len({p.best_before for p in line}) == 1
    assert not any(p.number.endswith(str(p.label)) for p in build_catalogue(40, 0, 4)[10:])


@pytest.mark.parametrize(("twins", "flavours", "variants"), [(1, 1, 1), (3, 2, 2), (9, 3, 3)])
def test_twins_of_one_design(twins: int, flavours: int, variants: int) -> None:
    line = build_catalogue(twins, seed=1, twins=twins)
    assert len({p.twin_group for p in line}) == 1
    assert len({p.flavour for p in line}) == flavours
    assert len({(p.shape, p.form, p.size) for p in line}) == variants


def test_a_short_list_has_every_shape() -> None:
    shapes = {p.shape for p in build_catalogue(48, seed=0, twins=4)}
    assert shapes == {"box", "can", "bottle", "pouch", "cup", "carton"} == {s for s, _, _ in FORMS}


def test_every_package_of_the_shop_can_be_rendered() -> None:
    packages = {package for kind in KINDS for package in kind.packages}
    assert {(*package, size) for package in packages for size in SIZES} == set(FORMS)


def test_presets_get_harder() -> None:
    easy, standard, hard = (PRESETS[name] for name in ("easy", "standard", "hard"))
    assert easy.rolls >= standard.rolls >= hard.rolls
    for knob in ("twins", "items", "light", "jitter"):
        assert getattr(easy, knob) < getattr(standard, knob) < getattr(hard, knob)
    assert choose_knobs("hard", rolls=12, items=None) == dataclasses.replace(hard, rolls=12)


def test_catalogue_grows_without_changing() -> None:
    many = build_catalogue(1000, seed=5, twins=4)
    assert many[:24] == build_catalogue(24, seed=5, twins=4) != build_catalogue(24, seed=6, twins=4)
    assert len({(p.brand, p.name_en, p.shape, p.form, p.size) for p in many}) == 1000
    assert len({p.number for p in many}) == 1000


def test_barcode_is_an_ean13() -> None:
    # 2 9 0 0 0 0 0 0 0 0 0 0: 2 + 3 * 9 = 29, so the check digit is 1.
    digits, bars = ean13("290000000000")
    assert digits == "2900000000001"
    assert len(bars) == 95
    assert bars[:10] == "1010001011"  # guard, then 9 in the left odd code
    assert bars[-10:] == "1100110101"  # 1 in the right code, then guard
