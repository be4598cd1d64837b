"""List of pictures to render for a catalogue, and the set's CSV files."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.geometry import PITCHES

TRAIN_PITCHES, TEST_PITCHES = PITCHES[:2], PITCHES


class View(NamedTuple):
    """One picture of the set; ``number`` counts within its label and split. Angles in degrees."""

    id: str
    label: int
    roll: float
    pitch: float
    split: str
    number: int


def list_views(
    products: int,
    rolls: int,
    seed: int,
    pitches: Sequence[float] = TRAIN_PITCHES,
    test_pitches: Sequence[float] = TEST_PITCHES,
) -> Iterator[View]:
    """All pictures of a set: training by label, then test.

    Test files are numbered in an order shuffled by ``seed``, so that file names reveal nothing.
    Test rolls lie half a step between training rolls. Angles are in degrees.
    """
    step = 360 / rolls
    for label in range(products):
        for number in range(len(pitches) * rolls):
            pitch, roll = pitches[number // rolls], number % rolls * step
            yield View(f"train/{label}/{number}.jpg", label, roll, pitch, "train", number)
    each = len(test_pitches) * rolls
    order = np.random.default_rng((seed, 1)).permutation(products * each)
    for file, place in enumerate(order.tolist()):
        label, number = divmod(place, each)
        pitch, roll = test_pitches[number // rolls], (number % rolls + 0.5) * step
        yield View(f"test/{file}.jpg", label, roll, pitch, "test", number)


def write_tables(out: Path, catalogue: list[Product], views: list[View]) -> None:
    """Write ``views.csv``, ``catalogue.csv`` and the competitor's ``sample.csv``."""
    columns = (
        "label", "shape", "form", "size", "brand", "line", "flavour", "amount", "name_en",
        "name_ko", "twin_group",
    )  # fmt: skip
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
