"""Augmentation: named steps, and draws that depend on their seed alone."""

from typing import Any

import numpy as np
import pytest

from product_cls.core.errors import UserError
from product_cls.data.augment import Augment, step_names, unknown_step

FLIP = {"transform": "HorizontalFlip", "p": 1.0}
STEPS: dict[str, Any] = {
    "shift_scale_rotate": {"transform": "ShiftScaleRotate", "border_mode": 1, "p": 0.5},
    "grid_distortion": {"transform": "GridDistortion", "border_mode": 1, "p": 0.5},
    "blur": {"transform": "Blur", "blur_limit": [3, 3], "p": 0.5},
    "horizontal_flip": {"transform": "HorizontalFlip", "p": 0.5},
    "tone": {
        "p": 0.5,
        "one_of": {
            "clahe": {"transform": "CLAHE", "p": 0.5},
            "random_brightness_contrast": {"transform": "RandomBrightnessContrast", "p": 0.5},
        },
    },
}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_names_cover_steps_groups_and_steps_inside_groups() -> None:
    names = ["shift_scale_rotate", "grid_distortion", "blur", "horizontal_flip"]
    assert step_names(STEPS) == [*names, "tone", "clahe", "random_brightness_contrast"]


def test_keeps_shape_and_dtype_and_leaves_the_input_alone(image: np.ndarray) -> None:
    augment, before = Augment(STEPS), image.copy()
    for seed in range(20):
        out = augment(image, seed)
        assert out.dtype == np.uint8 and out.shape == image.shape
    assert (image == before).all()


def test_a_seed_gives_the_same_picture_in_any_order(image: np.ndarray) -> None:
    first, second = Augment(STEPS), Augment(STEPS)
    drawn = {seed: first(image, seed) for seed in range(20)}
    for seed in reversed(range(20)):
        assert (second(image, seed) == drawn[seed]).all()
    assert len({picture.tobytes() for picture in drawn.values()}) > 15


def test_steps_are_drawn_independently(image: np.ndarray) -> None:
    """With equally seeded streams, all steps would fire together or none would."""
    augment = Augment(
        {
            "h": {"transform": "HorizontalFlip", "p": 0.5},
            "v": {"transform": "VerticalFlip", "p": 0.5},
        }
    )
    turned = {
        "none": image,
        "h": image[:, ::-1],
        "v": image[::-1],
        "both": image[::-1, ::-1],
    }
    counts = dict.fromkeys(turned, 0)
    for seed in range(200):
        out = augment(image, seed)
        counts[next(name for name, picture in turned.items() if (out == picture).all())] += 1
    assert all(30 < count < 70 for count in counts.values()), counts  # 50 each, 4 sigma is 25


def test_steps_run_in_order(image: np.ndarray) -> None:
    pad = {"transform": "Affine", "translate_px": {"x": 8, "y": 0}, "border_mode": 0, "p": 1.0}
    first = Augment({"shift": pad, "flip": FLIP})(image, 0)
    last = Augment({"flip": FLIP, "shift": pad})(image, 0)
    assert (first[:, -8:] == 0).all() and not (first[:, :8] == 0).all()
    assert (last[:, :8] == 0).all() and not (last[:, -8:] == 0).all()


def test_one_of_draws_in_proportion_to_p(image: np.ndarray) -> None:
    inner = {
        "h": {"transform": "HorizontalFlip", "p": 0.75},
        "v": {"transform": "VerticalFlip", "p": 0.25},
    }
    augment = Augment({"turn": {"one_of": inner, "p": 0.5}})
    counts = {"none": 0, "h": 0, "v": 0}
    turned = {"none": image, "h": image[:, ::-1], "v": image[::-1]}
    for seed in range(400):
        out = augment(image, seed)
        counts[next(name for name, picture in turned.items() if (out == picture).all())] += 1
    assert abs(counts["none"] - 200) < 40 and abs(counts["h"] - 150) < 40


def test_no_steps_change_nothing(image: np.ndarray) -> None:
    assert (Augment({})(image, 0) == image).all()


# --- exclude


def test_exclude(image: np.ndarray) -> None:
    assert (Augment({"flip": FLIP}, ["flip"])(image, 0) == image).all()
    augment = Augment(STEPS, ["blur", "clahe"])
    assert augment.names == [
        "shift_scale_rotate",
        "grid_distortion",
        "horizontal_flip",
        "tone",
        "random_brightness_contrast",
    ]


@pytest.mark.parametrize("engine", ["exact", "fast"])
@pytest.mark.parametrize("name", ["blur", "turn", "tone", "warp"])
def test_the_steps_that_stay_draw_the_same_without_an_excluded_one(
    image: np.ndarray, name: str, engine: Any
) -> None:
    """So that rows of an ablation differ by the step alone: where the step does not fire, the
    picture is the same."""
    steps = {
        "warp": {"transform": "GridDistortion", "p": 0.5},
        "blur": {"transform": "Blur", "p": 0.5},
        "tone": {"p": 0.5, "one_of": {"a": {"transform": "CLAHE"}, "b": {"transform": "ToGray"}}},
        "turn": {"transform": "Rotate", "p": 0.5},
        "flip": {"transform": "HorizontalFlip", "p": 0.5},
        "light": {"transform": "RandomBrightnessContrast", "p": 0.5},
    }
    whole, without = Augment(steps, engine=engine), Augment(steps, [name], engine=engine)
    equal = [np.array_equal(whole(image, n), without(image, n)) for n in range(200)]
    assert 0.3 < np.mean(equal) < 0.7
    # Not as without the step in the config, whose draws shift.
    other = Augment({key: step for key, step in steps.items() if key != name}, engine=engine)
    shifted = [np.array_equal(other(image, n), without(image, n)) for n in range(200)]
    assert np.mean(shifted) < 0.3


def test_exclude_inside_one_of(image: np.ndarray) -> None:
    steps = {
        "turn": {
            "one_of": {"h": FLIP, "v": {"transform": "VerticalFlip", "p": 1.0}},
            "p": 1.0,
        }
    }
    only = Augment(steps, ["v"])
    assert all((only(image, seed) == image[:, ::-1]).all() for seed in range(10))
    # Excluding all inner steps, or the group, leaves nothing.
    for names in (["h", "v"], ["turn"]):
        assert (Augment(steps, names)(image, 0) == image).all()


def test_excluding_a_group_excludes_its_steps() -> None:
    assert Augment(STEPS, ["tone"]).names == list(STEPS)[:-1]


def test_null_skips_a_step(image: np.ndarray) -> None:
    steps = {
        "flip": None,
        "turn": {"one_of": {"h": FLIP, "v": None}, "p": 1.0},
    }
    augment = Augment(steps)  # type: ignore[arg-type]
    assert augment.names == ["turn", "h"] == step_names(steps)  # type: ignore[arg-type]
    assert (augment(image, 0) == image[:, ::-1]).all()


@pytest.mark.parametrize("name", ["rotat", "cutmix", "Blur", 3])
def test_exclude_of_an_unknown_step(refused: Any, name: Any) -> None:
    with refused(f"exclude=[{name}]", *step_names(STEPS)):
        try:
            Augment(STEPS, [name])
        except ValueError as error:  # a hint may follow the sentence
            raise ValueError(str(error).partition(" Did you")[0]) from None
    assert "Did you mean 'horizontal_flip'?" in unknown_step("horizontalflip", step_names(STEPS))


# --- bad steps


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        (
            {"transform": "HorizontalFlipp"},
            ("step.transform=HorizontalFlipp", "did you mean 'HorizontalFlip'?"),
        ),
        ({"transform": "Compose"}, ("step.transform=Compose: no such class",)),
        ({"transform": "BasicTransform"}, ("step.transform=BasicTransform: no such class",)),
        ({"p": 0.5}, ("step.transform=None: no such class",)),
        ({"transform": "Blur", "limit": 3}, ("step.transform=Blur refuses", "'limit'")),
        (
            {"transform": "Blur", "blur_limit": 1},
            ("step.transform=Blur refuses", "blur_limit", "(3, 3)"),
        ),
        (
            {"transform": "HorizontalFlip", "p": 2},
            ("step.transform=HorizontalFlip refuses", "p: ", "less than"),
        ),
        (
            {"transform": "CLAHE", "clip_limit": "x"},
            ("step.transform=CLAHE refuses", "clip_limit: "),
        ),
        (0.5, ("step=0.5", "transform", "one_of")),
        ({"one_of": {"h": FLIP}, "p": 2}, ("step.p=2", "0 to 1")),
        ({"one_of": {"h": FLIP}, "q": 1}, ("step.q=1", "one_of, p")),
        ({"one_of": {"h": {**FLIP, "p": 0.0}}}, ("step.one_of=[h]", "p of all")),
        ({"one_of": [FLIP]}, ("step.one_of=[", "from names")),
        ({"one_of": {"h": {"transform": "Flop"}}}, ("step.one_of.h.transform=Flop",)),
    ],
)
def test_bad_steps(step: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Augment({"step": step})
    text = str(caught.value)
    assert text.startswith("step") and "\n" not in text and "pydantic" not in text, text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize(
    "step",
    [
        {"transform": "Normalize", "p": 1.0},
        {"transform": "Resize", "height": 24, "width": 24, "p": 1.0},
        {"transform": "ToGray", "num_output_channels": 1, "p": 1.0},
    ],
)
def test_a_step_must_keep_shape_and_dtype(image: np.ndarray, step: Any) -> None:
    augment = Augment({"step": step})
    with pytest.raises(UserError, match="uint8"):
        augment(image, 0)


def test_yaml_lists_become_ranges(image: np.ndarray) -> None:
    step = {"transform": "Rotate", "limit": [90, 90], "border_mode": 1, "p": 1.0}
    square = image[:40, :40]
    assert (Augment({"rotate": step})(square, 0) == np.rot90(square)).mean() > 0.9
