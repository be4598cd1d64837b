"""People's pictures in their layout, made up: seven a person, labels in the names."""

from pathlib import Path

import numpy as np
from PIL import Image

STATES = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
SUFFIXES = (".jpg", ".jpeg", ".png")


def make_people(folder: Path, count: int) -> Path:
    """``folder/train/images`` with people of all genders and ages, and ``folder/eval`` of 5.

    Brightness tells the mask, colour gender and age.
    """
    rng = np.random.default_rng(0)
    for n in range(count):
        gender, years = ("male", "female")[n % 2], (20, 45, 60)[n // 2 % 3] + n // 6
        person = folder / "train" / "images" / f"{n:06d}_{gender}_Asian_{years}"
        person.mkdir(parents=True)
        (person / "._mask1.jpg").write_bytes(b"left behind by another system")
        for k, state in enumerate(STATES):
            mask = max(k - 4, 0)
            _draw(rng, mask, n % 2, n // 2 % 3, person / f"{state}{SUFFIXES[(n + k) % 3]}")
    images = folder / "eval" / "images"
    images.mkdir(parents=True)
    names = [f"{name}.jpg" for name in "dbeac"]
    for n, name in enumerate(sorted(names)):
        _draw(rng, n % 3, n % 2, n % 3, images / name)
    lines = ["ImageID,ans", *(f"{name},0" for name in names)]
    (folder / "eval" / "info.csv").write_text("\n".join(lines) + "\n")
    return folder


def _draw(rng: np.random.Generator, mask: int, gender: int, age: int, file: Path) -> None:
    pixels = rng.integers(0, 40, (32, 24, 3))
    pixels[:, :, gender] += 100
    pixels[: 8 * (age + 1), :, 2] += 100
    pixels[24:] += 50 * mask
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
