"""Shift, scale and rotation keep the shape of a product, in both engines."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from product_cls.data.augment import Augment
from product_cls.data.fast_augment import Draws, fast_step

CONF = Path(__file__).parents[2] / "conf" / "augment"
SHAPE = (40, 56, 3)
RECIPES = {
    file.stem: steps["shift_scale_rotate"]
    for file in sorted(CONF.glob("*.yaml"))
    if "shift_scale_rotate" in (steps := yaml.safe_load(file.read_text()))
}


def drawn_aspects(step: dict[str, Any], count: int = 40) -> np.ndarray:
    """Ratio of the scales of both axes in drawn matrices, float ``[count, 2 engines]``."""
    transform: Any = Augment({"a": step}).pipeline.transforms[0]
    fast = fast_step(transform)
    image = np.zeros(SHAPE, np.uint8)
    aspects = []
    for seed in range(count):
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        drawn = transform.get_params_dependent_on_data({"shape": SHAPE}, {"image": image})
        warp: Any = fast(image, Draws(seed))
        matrices = drawn["matrix"][:2, :2], np.array(warp.inverse).reshape(2, 3)[:, :2]
        scales = [np.linalg.svd(matrix, compute_uv=False) for matrix in matrices]
        aspects.append([longest / shortest for longest, shortest in scales])
    return np.array(aspects)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_keep_the_aspect_ratio(name: str) -> None:
    assert RECIPES[name]["keep_ratio"] is True
    assert np.allclose(drawn_aspects(RECIPES[name]), 1)


def test_published_arguments_keep_it_too() -> None:
    assert np.allclose(drawn_aspects({"transform": "ShiftScaleRotate", "scale_limit": 0.3}), 1)


def test_both_axes_apart_on_request() -> None:
    step = {"transform": "ShiftScaleRotate", "scale_limit": 0.3, "keep_ratio": False}
    aspects = drawn_aspects(step)
    assert aspects.max() > 1.3
    assert np.allclose(aspects[:, 0], aspects[:, 1])  # the fast engine draws the same numbers


def test_wrong_arguments_are_refused(refused: Any) -> None:
    for argument, value in (("keep_ratio", "yes"), ("scale", 2)):
        with refused(f"{argument}", "a.transform=ShiftScaleRotate refuses"):
            Augment({"a": {"transform": "ShiftScaleRotate", argument: value}})
