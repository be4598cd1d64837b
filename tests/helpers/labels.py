"""Pictures of flat labels that differ in their print, as several cameras see them."""

import csv
from pathlib import Path

import cv2
import numpy as np

from product_cls.data.viewpoint import seen_at

SIDE = 128


def printed(label: int) -> np.ndarray:
    """A label with a print of its own, RGB uint8 ``[128, 128, 3]``."""
    rng = np.random.default_rng(label)
    picture = np.full((SIDE, SIDE, 3), 235, np.uint8)
    for _ in range(60):
        x, y, w, h = rng.integers(8, 110, 2).tolist() + rng.integers(4, 18, 2).tolist()
        colour = rng.integers(0, 255, 3).tolist()
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return picture


def photographed(label: int, pitch: float, seed: int = 0) -> np.ndarray:
    """The label from a camera at a pitch, with noise."""
    noise = np.random.default_rng(seed).normal(0, 4, (SIDE, SIDE, 3))
    return (seen_at(printed(label), pitch) + noise).clip(0, 255).astype(np.uint8)


def write_picture(file: Path, picture: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def write_shop(root: Path, *, labels: int = 4) -> Path:
    """The competition's layout: labels at pitch 0 and 15 in training, at 30 in the test."""
    rows = []
    for label in range(labels):
        for n in range(8):
            pitch = 15 * (n % 2)
            write_picture(root / "train" / str(label) / f"{n}.png", photographed(label, pitch, n))
            rows.append((f"train/{label}/{n}.png", label, 0, pitch, "train"))
        for n in range(4):
            name = f"{label * 4 + n}.png"
            write_picture(root / "test" / name, photographed(label, 30, 100 + n))
            rows.append((f"test/{name}", label, 0, 30, "test"))
    names = sorted(row[0].removeprefix("test/") for row in rows if row[4] == "test")
    for file, head, lines in (
        ("sample.csv", ("filename", "prediction"), [(name, 0) for name in names]),
        ("views.csv", ("id", "label", "roll", "pitch", "split"), rows),
    ):
        with (root / file).open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *lines])
    return root
