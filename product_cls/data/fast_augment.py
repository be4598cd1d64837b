"""The albumentations pipeline with the same draws in less time.

With small pictures most time goes into overhead around the pixels: each albumentations call checks
its input and builds matrices for boxes and two-dimensional grids that are never used. The steps in
``FAST_STEPS`` draw the same numbers in the same order and call OpenCV directly. With large pictures
most time goes into warping, so neighbouring warps are joined into one: shift-scale-rotate with grid
distortion, a flip with either of them or with rotate, and a change of viewpoint with the affine
ones and a grid after it.
Other steps run albumentations' own code.

The result equals that of the exact pipeline except for the rounding of positions. It is slightly
sharper where two interpolations became one. A viewpoint step after or before an affine warp
also keeps what the first of the two moves out of the frame and the second moves back.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import albumentations as A
import numpy as np

from product_cls.data import shift_scale_rotate
from product_cls.data.viewpoint import Foreshorten, Keystone, LensShift, TurnCylinder
from product_cls.data.warps import IDENTITY, Warp


class Idle(A.BaseCompose):
    """A step that is left out: it draws what it would draw and changes nothing.

    So the steps that stay make the same draws with and without it, and two runs differ by the step
    alone.

    Args:
        transform: the step, or a group of steps.
    """

    def __init__(self, transform: Any) -> None:
        super().__init__([transform], p=1.0)

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        self.transforms[0](**data)
        return data


class Draws:
    """Both random generators of albumentations, from one seed.

    NumPy's is built on first use: building it is slow, and only groups and a few steps need it.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.py = seed, random.Random(seed)
        self._numpy: np.random.Generator | None = None

    @property
    def numpy(self) -> np.random.Generator:
        if self._numpy is None:
            self._numpy = np.random.default_rng(self.seed)
        return self._numpy


class FastStep:
    """One albumentations transform, drawn and applied on its own."""

    def __init__(self, transform: Any) -> None:
        self.transform, self.p = transform, transform.p

    def fires(self, draws: Draws) -> bool:
        """Draw, as ``BasicTransform.should_apply`` does, whether the step applies."""
        return self.p > 0 and (self.p >= 1 or draws.py.random() < self.p)

    def __call__(self, image: np.ndarray, draws: Draws) -> "np.ndarray | Warp":
        """Change RGB uint8 ``[H, W, 3]``, or return a warp that is still to be applied to it."""
        self.transform.set_random_state(draws.numpy, draws.py)
        out: np.ndarray = self.transform(image=image, force_apply=True)["image"]
        return out

    def draw(self, image: np.ndarray, draws: Draws) -> None:
        """Draw what ``__call__`` draws, without changing a picture."""
        self(image, draws)


class Pixels(FastStep):
    """Blur, CLAHE, brightness and contrast: albumentations' draws and pixels, less its overhead."""

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        out: np.ndarray = self.transform.apply(image, **self._params(image, draws))
        return out

    def draw(self, image: np.ndarray, draws: Draws) -> None:
        self._params(image, draws)

    def _params(self, image: np.ndarray, draws: Draws) -> dict[str, Any]:
        self.transform.py_random = draws.py
        params: dict[str, Any] = self.transform.get_params()
        return params | self.transform.get_params_dependent_on_data(params, {"image": image})


class Flip(FastStep):
    """Horizontal flip."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        return Warp("flip", (-1.0, 0.0, image.shape[1] - 1.0, 0.0, 1.0, 0.0))


class ShiftScaleRotate(FastStep):
    """Shift, scale and rotation about the centre.

    Draws in the order of ``Affine``: shift, a shear of 0, scale, angle.
    """

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        (height, width), uniform, step = image.shape[:2], draws.py.uniform, self.transform
        share = {axis: uniform(*step.translate_percent[axis]) for axis in step.translate_percent}
        uniform(*step.shear["x"]), uniform(*step.shear["y"])
        scale = {axis: uniform(*step.scale[axis]) for axis in step.scale}
        if step.keep_ratio:
            scale["y"] = scale["x"]
        angle = uniform(*step.rotate)
        shift = int(share["x"] * width), int(share["y"] * height)
        return _affine(step, (height, width), angle, shift, (scale["x"], scale["y"]))


class Rotate(FastStep):
    """Rotation about the centre."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        angle = draws.py.uniform(*self.transform.limit)
        return _affine(self.transform, image.shape[:2], angle, (0, 0), (1.0, 1.0))


class View(FastStep):
    """Another viewpoint of the camera."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        warp: Warp = self.transform.draw(draws.py, image.shape)
        return warp


def _affine(
    step: Any,
    shape: tuple[int, ...],
    angle: float,
    shift: tuple[int, int],
    scale: tuple[float, float],
) -> Warp:
    """Inverse of albumentations' matrix: scale, rotate by ``angle`` degrees, shift in pixels."""
    cx, cy = shape[1] / 2 - 0.5, shape[0] / 2 - 0.5
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    a, b, d, e = cos / scale[0], -sin / scale[0], sin / scale[1], cos / scale[1]
    x, y = cx + shift[0], cy + shift[1]
    inverse = (a, b, cx - a * x - b * y, d, e, cy - d * x - e * y)
    fill = step.fill if isinstance(step.fill, tuple) else (step.fill,) * 3
    return Warp("affine", inverse, None, step.border_mode, fill, step.interpolation)


class GridDistortion(FastStep):
    """Stretches columns and rows separately."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        step, count = self.transform, self.transform.num_steps + 1
        stretches = [
            np.array([1 + draws.py.uniform(*step.distort_limit) for _ in range(count)])
            for _ in ("x", "y")
        ]
        height, width = image.shape[:2]
        gx = _positions(stretches[0], width, step.normalized)
        gy = _positions(stretches[1], height, step.normalized)
        return Warp("grid", IDENTITY, (gx, gy), step.border_mode, step.fill, step.interpolation)


def _positions(stretches: np.ndarray, side: int, normalized: bool) -> np.ndarray:
    """Source position of each column (or row), float64 ``[side]``.

    Args:
        stretches: float ``[cells + 1]``, stretch of each cell; the last is for the remainder of the
            division. Modified if ``normalized``.
        side: side of the picture in pixels.
        normalized: keep the total length of the cells.
    """
    cell, within, last = _cells(side, len(stretches) - 1)
    unit = side // (len(stretches) - 1)
    if normalized:
        stretches[-1] *= last / unit
        stretches *= side / unit / stretches.sum()
    # In pictures of fewer than 20 pixels, albumentations leaves zeros beyond the last cell.
    lengths = np.zeros(max(cell[-1] + 1, len(stretches)))
    lengths[: len(stretches)] = unit * stretches
    starts = lengths.cumsum() - lengths
    starts[len(stretches) :] = 0
    positions: np.ndarray = starts[cell] + lengths[cell] * within
    return positions


@lru_cache(maxsize=32)
def _cells(side: int, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Cell of each column and its place in the cell, 0 to 1; and the length of the last cell."""
    unit = side // count
    cell, place = np.divmod(np.arange(side), unit)
    last = min(side, (count + 1) * unit) - count * unit
    length = np.where(cell == count, last, unit)
    return cell, place / np.maximum(length - 1, 1), last


class OneOf(FastStep):
    """Draws one of several steps."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self.steps = [fast_step(inner) for inner in transform.transforms]

    def fires(self, draws: Draws) -> bool:
        return draws.py.random() < self.p

    def __call__(self, image: np.ndarray, draws: Draws) -> "np.ndarray | Warp":
        shares = self.transform.transforms_ps
        return self.steps[draws.numpy.choice(len(shares), p=shares)](image, draws)


FAST_STEPS: dict[type, type[FastStep]] = {
    shift_scale_rotate.ShiftScaleRotate: ShiftScaleRotate,
    A.GridDistortion: GridDistortion,
    A.Rotate: Rotate,
    A.HorizontalFlip: Flip,
    Foreshorten: View,
    Keystone: View,
    LensShift: View,
    TurnCylinder: View,
    A.Blur: Pixels,
    A.CLAHE: Pixels,
    A.RandomBrightnessContrast: Pixels,
    A.OneOf: OneOf,
}


def fast_step(transform: Any) -> FastStep:
    """The fast step of a transform; a step that runs albumentations' own code if there is none."""
    step = FAST_STEPS.get(type(transform), FastStep)
    return FastStep(transform) if getattr(transform, "crop_border", False) else step(transform)


class FastPipeline:
    """Equivalent of ``albumentations.Compose`` for a list of transforms.

    Args:
        transforms: albumentations transforms.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.steps = [
            (fast_step(t.transforms[0] if (idle := isinstance(t, Idle)) else t), idle)
            for t in transforms
        ]

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Augment RGB uint8 ``[H, W, 3]`` with the draws of ``seed``; returns the same shape."""
        draws = Draws(seed)
        draws.py.random()  # Compose draws whether to run at all
        pending: Warp | None = None  # not applied yet: the next warp may join it
        for step, idle in self.steps:
            if not step.fires(draws):
                continue
            if idle:
                step.draw(image, draws)
                continue
            warps = isinstance(step, ShiftScaleRotate | GridDistortion | Rotate | Flip | View)
            if pending is not None and not warps:
                image, pending = pending(image), None
            drawn = step(image, draws)
            if not isinstance(drawn, Warp):
                image = drawn
                continue
            joined = None if pending is None else pending.then(drawn, image.shape)
            if pending is not None and joined is None:
                image = pending(image)
            pending = joined or drawn
        return image if pending is None else pending(image)
