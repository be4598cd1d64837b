"""RandAugment and AutoAugment, drawn from the picture's seed alone; the sets of conf/augment."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from runs_in_process import ROOT
from test_datamodule import module, pictures

from product_cls.data.augment import Augment, step_names
from product_cls.data.image_store import ImageStore
from product_cls.data.policies import OPERATIONS, AutoAugment, RandAugment, torchvision_name
from product_cls.data.readers import read_competition
from product_cls.data.store import build_store

RAND = {"transform": "RandAugment", "num_ops": 2, "magnitude": 9, "p": 1.0}
AUTO = {"transform": "AutoAugment", "policy": "imagenet", "p": 1.0}
POLICIES = pytest.mark.parametrize("step", [RAND, AUTO], ids=["rand", "auto"])


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


@POLICIES
def test_a_seed_is_repeatable_and_torchs_stream_is_restored(
    image: np.ndarray, step: dict[str, Any]
) -> None:
    augment, before = Augment({"policy": step}), image.copy()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn = [augment(image, seed) for seed in range(30)]
    assert torch.rand(3).equal(expected)
    assert (image == before).all()
    assert all(out.shape == image.shape and out.dtype == np.uint8 for out in drawn)
    assert len({out.tobytes() for out in drawn}) > 12  # AutoAugment has 25 pairs to draw from
    again = Augment({"policy": step})
    torch.manual_seed(7)
    for seed in reversed(range(30)):
        assert (again(image, seed) == drawn[seed]).all()


@POLICIES
def test_draws_depend_on_epoch_and_picture_but_not_on_workers(
    tiny_root: Any, tmp_path: Any, step: dict[str, Any]
) -> None:
    samples: pd.DataFrame = read_competition(tiny_root)
    alike = samples.assign(path=samples["path"][0])
    store: ImageStore = build_store(alike, tmp_path / "store", (32, 32))
    # Several steps per picture, because single draws of few operations often coincide.
    augment = Augment({f"policy_{k}": step for k in range(4)})
    epochs = {}
    for workers in (0, 2):
        loader = module(samples, store, augment=augment, num_workers=workers).train_dataloader()
        epochs[workers] = [pictures(loader, epoch) for epoch in (0, 1)]
    assert epochs[0] == epochs[2]
    first, second = epochs[0]
    assert len(set(first.values())) > 28 and len({*first.values(), *second.values()}) > 56


def applied(augment: Augment, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """torchvision's names of the operations that are applied to 300 pictures."""
    transform = augment.pipeline.transforms[0].policy_transform
    seen = set()
    original = type(transform)._apply_image_or_video_transform

    def spy(image: Any, name: str, *rest: Any, **more: Any) -> Any:
        seen.add(name)
        return original(transform, image, name, *rest, **more)

    monkeypatch.setattr(transform, "_apply_image_or_video_transform", spy)
    for seed in range(300):
        augment(image, seed)
    return seen


def test_rand_augment_draws_operations_that_are_not_excluded(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"rand_augment": {**RAND, "operations": list(OPERATIONS)}}
    assert step_names(steps) == ["rand_augment", *OPERATIONS]
    every = {torchvision_name(name) for name in OPERATIONS}
    assert applied(Augment(steps), image, monkeypatch) == every
    without = Augment(steps, ["solarize", "shear_x"])
    assert applied(without, image, monkeypatch) == every - {"Solarize", "ShearX"}
    assert without.names == [n for n in step_names(steps) if n not in ("solarize", "shear_x")]
    for nothing in (["rand_augment"], list(OPERATIONS)):
        assert (Augment(steps, nothing)(image, 0) == image).all()


def test_magnitude_is_the_rotation_angle() -> None:
    square = np.zeros((64, 64, 3), np.uint8)
    square[31:33, 32:] = 255  # a ray from the centre to the right
    step = {**RAND, "num_ops": 1, "magnitude": 30, "operations": ["rotate"], "fill": 0}
    out = Augment({"rand_augment": step})(square, 0)
    y, x = np.nonzero(out[..., 0] > 128)
    angle = np.degrees(np.arctan2(y - 31.5, x - 31.5))[np.hypot(y - 31.5, x - 31.5) > 10]
    assert abs(np.median(angle)) == pytest.approx(30, abs=2)


def test_pixels_from_outside_are_grey() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    step = {**RAND, "num_ops": 1, "magnitude": 30, "operations": ["translate_x"]}
    out = Augment({"rand_augment": step})(white, 0)
    assert sorted(np.unique(out)) == [128, 255]


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        (
            {**RAND, "num_ops": 0},
            ("step.transform=RandAugment refuses", "num_ops", "greater than or equal to 1"),
        ),
        ({**RAND, "magnitude": 31}, ("step.transform=RandAugment refuses", "magnitude", "30")),
        (
            {**RAND, "operations": ["shearx"]},
            ("step.transform=RandAugment refuses", "'shearx'", "shear_x, shear_y"),
        ),
        ({**RAND, "operations": "rotate"}, ("step.operations=rotate; allowed: a list of names",)),
        ({**RAND, "fill": 300}, ("step.transform=RandAugment refuses", "fill", "255")),
        ({**RAND, "bins": 3}, ("step.transform=RandAugment refuses", "'bins'")),
        ({**RAND, "p": 2}, ("step.transform=RandAugment refuses", "p: ")),
        (
            {**AUTO, "policy": "coco"},
            ("step.transform=AutoAugment refuses", "policy", "'imagenet'"),
        ),
        ({"transform": "RandAugmen"}, ("did you mean 'RandAugment'?",)),
    ],
)
def test_bad_steps(step: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Augment({"step": step})
    text = str(caught.value)
    assert text.startswith("step.") and "\n" not in text, text
    for part in parts:
        assert part in text, text


def test_defaults_match_the_papers() -> None:
    assert list(RandAugment().policy_transform._AUGMENTATION_SPACE) == list(
        map(torchvision_name, OPERATIONS)
    )
    assert len(AutoAugment().policy_transform._policies) == 25


# --- the sets of conf/augment


def steps_of(composed: Any, name: str) -> dict[str, Any]:
    return dict(composed(f"augment={name}")["augment"])


SETS = sorted(path.stem for path in (ROOT / "conf" / "augment").glob("*.yaml"))


@pytest.mark.parametrize("name", SETS)
def test_every_set_changes_pictures_and_refuses_unknown_names(composed: Any, name: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 36, 3), dtype=np.uint8)
    steps = steps_of(composed, name)
    augment = Augment(steps)
    out = [augment(picture, seed) for seed in range(20)]
    assert all(image.shape == picture.shape and image.dtype == np.uint8 for image in out)
    changed = sum((image != picture).any() for image in out)
    assert changed == 0 if name in ("none", "normalize_only") else changed > 10
    with pytest.raises(ValueError, match=r"exclude=\[rotat\]"):
        Augment(steps, ["rotat"])


def test_normalize_only_is_none(composed: Any) -> None:
    assert steps_of(composed, "normalize_only") == steps_of(composed, "none") == {}


def test_crops_of_people_stay_inside_the_picture(composed: Any) -> None:
    """A ramp over the picture: what is left of it after a crop is a narrower range."""
    ramp = np.repeat(np.linspace(0, 255, 100).astype(np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    step = {**steps_of(composed, "people")["crop"], "p": 1.0}
    centre, free = (
        Augment({"crop": step}, ["random_crop"]),
        Augment({"crop": step}, ["center_crop"]),
    )
    lefts, rights = [], []
    for seed in range(50):
        out = centre(ramp, seed)[40, :, 0].astype(int)
        assert abs(out[0] - (255 - out[-1])) <= 6  # as much from either side
        out = free(ramp, seed)[40, :, 0].astype(int)
        lefts.append(out[0]), rights.append(255 - out[-1])
    assert max(lefts) > 25 and max(rights) > 25 and max(*lefts, *rights) <= 0.15 * 255 + 3
    assert abs(np.corrcoef(lefts, rights)[0, 1]) < 0.4
