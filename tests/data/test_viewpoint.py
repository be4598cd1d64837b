"""Steps that change the viewpoint: their warps, their ramp, and their place in the pipelines."""

import math
import random

import numpy as np
import pytest

from product_cls.data import warps
from product_cls.data.augment import VIEWPOINT, Augment
from product_cls.data.viewpoint import Foreshorten, TurnCylinder, keystone, off_axis, tilt

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


def test_a_keystone_keeps_the_length_of_both_axes() -> None:
    narrow = keystone(50, 30, 0.01)  # from far away, nothing converges
    assert moved(narrow, 1, 0)[0] == pytest.approx(1, abs=1e-3)
    assert moved(narrow, 0, 1)[1] == pytest.approx(1, abs=1e-3)
    wide = keystone(30, 0, 50)
    upper, lower = (moved(wide, 1, y)[0] for y in (-1, 1))
    assert lower < 1 < upper


def test_a_lens_that_points_elsewhere_stretches_outwards_and_keeps_the_centre() -> None:
    # The camera is 1 away at 90 degrees of view; 30 degrees off its axis, the picture's right edge
    # is seen at 30 + 45 degrees.
    matrix = off_axis(0, 30, 90)
    assert moved(matrix, 0, 0) == pytest.approx((0, 0))
    scale = moved(matrix, 1, 0)[0] / (math.tan(math.radians(75)) - math.tan(math.radians(30)))
    left = math.tan(math.radians(-15)) - math.tan(math.radians(30))
    assert moved(matrix, -1, 0)[0] == pytest.approx(scale * left)
    assert moved(matrix, 1e-6, 1e-6)[1] == pytest.approx(1e-6)  # across the shift


def test_a_turned_label_moves_as_on_a_cylinder() -> None:
    step = TurnCylinder(turn=(30, 30), width=(0.8, 0.8), p=1)
    warp = step.draw(random.Random(0), (50, 101))
    assert warp.grid is not None
    columns, rows = warp.grid
    np.testing.assert_array_equal(rows, np.arange(50))
    radius = 0.8 * 101 / 2
    # The middle now shows what was 30 degrees to its left.
    assert columns[50] == pytest.approx(50 - radius * math.sin(math.radians(30)))
    beside = np.abs(np.arange(101) - 50) > radius
    np.testing.assert_array_equal(columns[beside], np.arange(101)[beside])
    on_label = columns[~beside]
    assert on_label.min() == pytest.approx(50 - radius) and (np.diff(on_label) >= 0).all()


@pytest.mark.parametrize("name", VIEWPOINT)
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
def test_strength_ramps_up_from_epoch_to_epoch(name: str, grouped: bool) -> None:
    step = {"transform": name, "p": 1.0}
    steps = {"one": {"one_of": {"a": step}, "p": 1.0}} if grouped else {"a": step}
    image = smooth(48, 48)
    for engine in ("exact", "fast"):
        ramping = Augment(steps, engine=engine, ramp=8)
        change = [
            np.abs(ramping(image, 5, epoch).astype(int) - image).mean() for epoch in range(10)
        ]
        assert 0 < change[0] < change[3] < change[7] == change[8] == change[9]
        full = Augment(steps, engine=engine)(image, 5, 0)
        np.testing.assert_array_equal(ramping(image, 5), full)
        np.testing.assert_array_equal(ramping(image, 5, 7), full)


@pytest.mark.parametrize("name", VIEWPOINT)
def test_both_engines_draw_the_same_viewpoint(name: str) -> None:
    image = smooth(40, 56)
    step = {"transform": name, "p": 1.0}
    exact, fast = (Augment({"a": step}, engine=engine) for engine in ("exact", "fast"))
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


def test_a_turn_after_a_new_viewpoint_is_one_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        "a": STEP,
        "turn": {"transform": "TurnCylinder", "p": 1.0},
        "flip": {"transform": "HorizontalFlip", "p": 0.5},
    }
    image = smooth(64, 64)
    exact, fast = (Augment(steps, engine=engine) for engine in ("exact", "fast"))
    expected = [exact(image, seed) for seed in range(6)]
    monkeypatch.setattr(warps.cv2, "warpPerspective", None)
    for seed in range(6):
        inner = np.abs(fast(image, seed).astype(int) - expected[seed])[8:56, 8:56]
        assert np.median(inner) <= 2


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"transform": "LensShift", "pitch": [0, 50]}, "within -45 to 45"),
        ({"transform": "Foreshorten", "pitch": [0, 80], "field_of_view": 100}, "touches the pict"),
        ({"transform": "TurnCylinder", "width": [0.1, 0.5]}, "within 0.2 to 1"),
        ({"transform": "TurnCylinder", "turn": [30, -30]}, "within -80 to 80"),
    ],
)
def test_an_impossible_camera_is_refused(step: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"a.transform={step['transform']} refuses.*{words}"):
        Augment({"a": step})


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
