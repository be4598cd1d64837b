"""The fast pipeline makes the same draws as albumentations, and nearly the same pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from product_cls.data.augment import Augment

CONF = Path(__file__).parents[2] / "conf" / "augment"
SHIFT = {"transform": "ShiftScaleRotate", "border_mode": 1, "p": 1.0}
GRID = {"transform": "GridDistortion", "border_mode": 1, "p": 1.0}
ROTATE = {"transform": "Rotate", "border_mode": 1, "p": 1.0}
FLIP = {"transform": "HorizontalFlip", "p": 1.0}
BLUR = {"transform": "Blur", "blur_limit": [3, 7], "p": 1.0}


def steps_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONF / f"{name}.yaml").read_text()))


def smooth(height: int, width: int) -> np.ndarray:
    """Smooth waves, which an additional interpolation hardly changes."""
    y, x = np.mgrid[:height, :width] / width
    waves = [np.sin(6 * x + 2 * y), np.cos(5 * y - x), np.sin(4 * x * y)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def differences(
    steps: dict[str, Any], count: int, side: tuple[int, int] = (40, 56), **arguments: Any
) -> np.ndarray:
    """Fast minus exact picture of each seed, int ``[count, H, W, 3]``."""
    image = smooth(*side)
    exact, fast = (Augment(steps, engine=engine, **arguments) for engine in ("exact", "fast"))
    return np.stack([fast(image, seed).astype(int) - exact(image, seed) for seed in range(count)])


@pytest.mark.parametrize(
    "steps",
    [
        {"a": SHIFT},
        {"a": {**SHIFT, "border_mode": 0, "fill": 77, "scale_limit": [-0.3, 0.6]}},
        {"a": GRID},
        {"a": {**GRID, "normalized": False, "num_steps": 3, "border_mode": 0}},
        {"a": ROTATE},
        {"a": FLIP, "b": ROTATE},
        {"a": FLIP, "b": {**SHIFT, "border_mode": 0}},
        {"a": FLIP, "b": GRID},
        {"a": GRID, "b": FLIP},
        {"a": SHIFT, "b": FLIP, "c": FLIP},
        {"a": SHIFT, "b": ROTATE},  # each repeats its own border, so they must not be joined
        {"a": GRID, "b": ROTATE},
        {"a": {**SHIFT, "border_mode": 0}, "b": GRID},
        {"a": SHIFT, "b": BLUR, "c": ROTATE},
        {
            "a": {**ROTATE, "crop_border": True},
            "b": {"transform": "Resize", "height": 40, "width": 56},
        },
        steps_of("photo"),
        steps_of("retrieval"),
        steps_of("letters"),
        steps_of("people"),
    ],
    ids=str,
)
def test_same_draws_give_the_same_pictures(steps: dict[str, Any]) -> None:
    assert np.abs(differences(steps, 12)).max() <= 2


def test_tiny_pictures() -> None:
    """Below 20 pixels, albumentations' grid omits some columns."""
    assert np.abs(differences({"a": GRID}, 5, side=(13, 9))).max() <= 1


@pytest.mark.parametrize("after", [{}, {"c": FLIP}])
def test_joined_warps_differ_by_one_interpolation(after: dict[str, Any]) -> None:
    apart = np.abs(differences({"a": SHIFT, "b": GRID, **after}, 12))
    assert 0 < apart.mean() < 0.3 and apart.max() <= 4


def test_recipe_a_is_nearly_the_same() -> None:
    """CLAHE amplifies differences of one level, so a few pixels differ by more."""
    apart = differences(steps_of("product"), 60, side=(64, 64))
    by_picture = np.abs(apart).mean(axis=(1, 2, 3))
    assert np.median(by_picture) < 0.05 and by_picture.mean() < 0.3
    assert abs(apart.mean()) < 0.05  # neither brighter nor darker
    assert (by_picture == 0).mean() > 0.4


def test_excludes_the_same_steps() -> None:
    steps = steps_of("product")
    excluded = ["grid_distortion", "clahe"]
    assert np.abs(differences(steps, 30, exclude=excluded)).max() <= 1
    rest = [name for name in Augment(steps).names if name != "tone"]
    image = smooth(40, 40)
    fast = Augment(steps, [*rest[:5], "tone"], engine="fast")
    assert all((fast(image, seed) == image).all() for seed in range(5))


def test_leaves_the_input_alone_and_repeats_a_seed() -> None:
    image, fast = smooth(40, 56), Augment(steps_of("product"), engine="fast")
    before = image.copy()
    drawn = [fast(image, seed) for seed in range(20)]
    assert all((fast(image, seed) == drawn[seed]).all() for seed in reversed(range(20)))
    assert (image == before).all()


def test_unknown_engine(refused: Any) -> None:
    with refused("engine=slow", "exact, fast"):
        Augment({"a": FLIP}, engine="slow")  # type: ignore[arg-type]
