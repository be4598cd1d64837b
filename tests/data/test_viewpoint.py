"""Foreshortening: its homography, its step, and its place in the pipelines."""

import math
import random

import numpy as np
import pytest

from product_cls.data import warps
from product_cls.data.augment import Augment
from product_cls.data.viewpoint import Foreshorten, tilt

STEP = {"transform": "Foreshorten", "p": 1.0}


def smooth(height: int, width: int) -> np.ndarray:
    """Waves that an additional interpolation hardly changes, uint8 ``[H, W, 3]``."""
    y, x = np.mgrid[:height, :width] / width
    waves = [np.sin(6 * x + 2 * y), np.cos(5 * y - x), np.sin(4 * x * y)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def moved(matrix: np.ndarray, x: float, y: float) -> tuple[float, float]:
    u, v, w = matrix @ (x, y, 1.0)
    return u / w, v / w


def test_no_angle_is_the_identity() -> None:
    matrix = tilt(0, 0, 50)
    np.testing.assert_allclose(matrix / matrix[2, 2], np.eye(3), atol=1e-12)


def test_a_rising_camera_shortens_the_picture_and_widens_its_upper_edge() -> None:
    # From far away (a narrow field of view) the height shrinks by the cosine of the pitch.
    narrow = tilt(60, 0, 0.01)
    assert moved(narrow, 0, 1)[1] == pytest.approx(0.5, abs=1e-3)
    assert moved(narrow, 1, 0) == pytest.approx((1, 0), abs=1e-3)
    # At 60 degrees of view the camera is sqrt(3) half sides away; the upper edge comes nearer.
    distance = math.sqrt(3)
    wide = tilt(30, 0, 60)
    x, y = moved(wide, 1, -1)
    assert x == pytest.approx(distance / (distance - 0.5))
    assert y == pytest.approx(-distance * math.cos(math.radians(30)) / (distance - 0.5))
    assert moved(wide, 1, 1)[0] < 1


def test_yaw_brings_one_side_nearer() -> None:
    left, right = (moved(tilt(0, 30, 50), x, 1)[1] for x in (-1, 1))
    assert left < 1 < right


def test_both_engines_draw_the_same_viewpoint() -> None:
    image = smooth(40, 56)
    exact, fast = (Augment({"a": STEP}, engine=engine) for engine in ("exact", "fast"))
    pictures = [exact(image, seed) for seed in range(8)]
    for seed, picture in enumerate(pictures):
        np.testing.assert_array_equal(fast(image, seed), picture)
    assert all((pictures[0] != other).any() for other in pictures[1:])


@pytest.mark.parametrize(
    "others",
    [
        {"flip": {"transform": "HorizontalFlip", "p": 1.0}},
        {
            "shift": {
                "transform": "ShiftScaleRotate",
                "border_mode": 1,
                "shift_limit": 0.05,
                "scale_limit": 0.0,
                "rotate_limit": 10,
                "p": 1.0,
            }
        },
        {"again": STEP},
    ],
    ids=["flip", "affine", "perspective"],
)
@pytest.mark.parametrize("first", [True, False])
def test_neighbouring_warps_are_one_interpolation(
    others: dict[str, object], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {**others, "a": STEP} if first else {"a": STEP, **others}
    image = smooth(48, 48)
    exact, fast = (Augment(steps, engine=engine) for engine in ("exact", "fast"))
    expected = [exact(image, seed) for seed in range(6)]
    calls = []
    real = warps.cv2.warpPerspective
    monkeypatch.setattr(
        warps.cv2, "warpPerspective", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    for seed in range(6):
        inner = np.abs(fast(image, seed).astype(int) - expected[seed])[12:36, 12:36]
        assert np.median(inner) <= 2  # away from borders, which each warp repeats on its own
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pitch": [0, 95]}, "pitch"),
        ({"yaw": [10, -10]}, "yaw"),
        ({"field_of_view": 0}, "field_of_view"),
        ({"pitch": 30}, "pitch"),
        ({"degrees": 3}, "degrees"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=rf"a.transform=Foreshorten refuses.*{words}"):
        Augment({"a": {**STEP, **arguments}})


def test_the_same_seed_draws_the_same_warp_at_every_size() -> None:
    step = Foreshorten()
    small, large = (step.draw(random.Random(3), (side, side)) for side in (32, 64))
    # A perspective's third row is in 1 / pixels.
    assert small.inverse[6] == pytest.approx(2 * large.inverse[6], rel=0.05)
