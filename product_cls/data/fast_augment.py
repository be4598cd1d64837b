"""The albumentations pipeline with the same draws in less time.

Most of a small picture's time goes into what surrounds the pixels: each albumentations call checks
its input, and makes matrices for boxes and grids of two dimensions that nobody asked for. The steps
known here draw the same numbers in the same order and go straight to OpenCV. Most of a large
picture's time goes into warping, so neighbours are warped at once: shift, scale and rotate with
grid distortion, and a flip with either or with rotate. Other steps are albumentations' own.

A picture is the exact one but for how positions are rounded, and a little sharper where two
interpolations became one.
"""

import math
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np

Inverse = tuple[float, float, float, float, float, float]  # from output to input: two rows
Grid = tuple[np.ndarray, np.ndarray]  # where each column and each row of the output comes from
IDENTITY: Inverse = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class Draws:
    """Both of albumentations' generators from one seed; NumPy's takes long to make, and only groups
    and a few steps draw from it."""

    def __init__(self, seed: int) -> None:
        self.seed, self.py = seed, random.Random(seed)
        self._numpy: np.random.Generator | None = None

    @property
    def numpy(self) -> np.random.Generator:
        if self._numpy is None:
            self._numpy = np.random.default_rng(self.seed)
        return self._numpy


@dataclass(frozen=True)
class Warp:
    """A picture whose pixel (x, y) is the input's at ``(a gx + b gy + c, d gx + e gy + f)``, where
    (gx, gy) is the grid at (x, y), or (x, y) itself without one."""

    kind: Literal["affine", "grid", "flip"]
    inverse: Inverse
    grid: Grid | None = None
    border: int = cv2.BORDER_REPLICATE
    fill: Any = 0
    interpolation: int = cv2.INTER_LINEAR

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if self.kind == "flip":
            return cv2.flip(image, 1)
        # OpenCV gathers pixels of four channels in two thirds of the time of three, to the same
        # values.
        four = self._warp(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA))
        return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)

    def _warp(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if self.grid is None:
            return cv2.warpAffine(
                image,
                np.array(self.inverse).reshape(2, 3),
                (width, height),
                flags=self.interpolation | cv2.WARP_INVERSE_MAP,
                borderMode=self.border,
                borderValue=self.fill,
            )
        a, b, c, d, e, f = self.inverse
        gx, gy = self.grid
        x, y = _maps(height, width, threading.get_ident())
        np.add((a * gx + c).astype(np.float32), (b * gy).astype(np.float32)[:, None], out=x)
        np.add((d * gx).astype(np.float32), (e * gy + f).astype(np.float32)[:, None], out=y)
        return cv2.remap(
            image, x, y, self.interpolation, borderMode=self.border, borderValue=self.fill
        )

    def then(self, other: "Warp", shape: tuple[int, ...]) -> "Warp | None":
        """This warp and the other after it as one; None where that would be another picture.

        What lies outside of a picture is decided by each warp for itself. Two become one where the
        first or second never looks outside (a flip, a grid once it is clipped).
        """
        height, width = shape[:2]
        if other.kind == "flip":
            if self.grid is None:
                a, b, c, d, e, f = self.inverse
                return replace(
                    self, inverse=(-a, b, a * (width - 1) + c, -d, e, d * (width - 1) + f)
                )
            return replace(self, grid=(self.grid[0][::-1], self.grid[1]))
        if self.kind == "flip":
            a, b, c, d, e, f = other.inverse
            return replace(other, inverse=(-a, -b, width - 1 - c, d, e, f))
        alike = (cv2.BORDER_REPLICATE, cv2.INTER_LINEAR)
        if (
            (self.kind, other.kind) == ("affine", "grid")
            and (self.border, self.interpolation) == alike
            and (other.border, other.interpolation) == alike
        ):
            assert other.grid is not None
            gx, gy = other.grid
            return replace(self, grid=(gx.clip(0, width - 1), gy.clip(0, height - 1)))
        return None


@lru_cache(maxsize=8)
def _maps(height: int, width: int, thread: int) -> np.ndarray:
    """Room for positions, float32 ``[2, H, W]``, which would take longer to get than to fill."""
    return np.empty((2, height, width), np.float32)


class Step:
    """One transform of albumentations, drawn and applied by itself."""

    def __init__(self, transform: Any) -> None:
        self.transform, self.p = transform, transform.p

    def fires(self, draws: Draws) -> bool:
        """Whether it is drawn, as ``BasicTransform.should_apply`` draws."""
        return self.p > 0 and (self.p >= 1 or draws.py.random() < self.p)

    def __call__(self, image: np.ndarray, draws: Draws) -> "np.ndarray | Warp":
        """The changed picture, or the warp that will change it."""
        self.transform.set_random_state(draws.numpy, draws.py)
        out: np.ndarray = self.transform(image=image, force_apply=True)["image"]
        return out


class Pixels(Step):
    """Blur, CLAHE, brightness and contrast: their own draws and pixels, not what surrounds them."""

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        self.transform.py_random = draws.py
        params = self.transform.get_params()
        params |= self.transform.get_params_dependent_on_data(params, {"image": image})
        out: np.ndarray = self.transform.apply(image, **params)
        return out


class Flip(Step):
    """Left and right exchanged."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        return Warp("flip", (-1.0, 0.0, image.shape[1] - 1.0, 0.0, 1.0, 0.0))


class ShiftScaleRotate(Step):
    """About the centre; draws as ``Affine`` does: shift, a shear of 0, scale, angle."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        (height, width), uniform, step = image.shape[:2], draws.py.uniform, self.transform
        share = {axis: uniform(*step.translate_percent[axis]) for axis in step.translate_percent}
        uniform(*step.shear["x"]), uniform(*step.shear["y"])
        scale = {axis: uniform(*step.scale[axis]) for axis in step.scale}
        angle = uniform(*step.rotate)
        shift = int(share["x"] * width), int(share["y"] * height)
        return _affine(step, (height, width), angle, shift, (scale["x"], scale["y"]))


class Rotate(Step):
    """An angle about the centre."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        angle = draws.py.uniform(*self.transform.limit)
        return _affine(self.transform, image.shape[:2], angle, (0, 0), (1.0, 1.0))


def _affine(
    step: Any,
    shape: tuple[int, ...],
    angle: float,
    shift: tuple[int, int],
    scale: tuple[float, float],
) -> Warp:
    """The inverse of albumentations' matrix: scaled, turned by ``angle`` degrees, then shifted."""
    cx, cy = shape[1] / 2 - 0.5, shape[0] / 2 - 0.5
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    a, b, d, e = cos / scale[0], -sin / scale[0], sin / scale[1], cos / scale[1]
    x, y = cx + shift[0], cy + shift[1]
    inverse = (a, b, cx - a * x - b * y, d, e, cy - d * x - e * y)
    fill = step.fill if isinstance(step.fill, tuple) else (step.fill,) * 3
    return Warp("affine", inverse, None, step.border_mode, fill, step.interpolation)


class GridDistortion(Step):
    """Columns and rows drawn apart and together."""

    def __call__(self, image: np.ndarray, draws: Draws) -> Warp:
        step, count = self.transform, self.transform.num_steps + 1
        drawn = [[1 + draws.py.uniform(*step.distort_limit) for _ in range(count)] for _ in "xy"]
        height, width = image.shape[:2]
        gx, gy = (
            _positions(np.array(steps), side, step.normalized)
            for steps, side in zip(drawn, (width, height), strict=True)
        )
        return Warp("grid", IDENTITY, (gx, gy), step.border_mode, step.fill, step.interpolation)


def _positions(steps: np.ndarray, side: int, normalized: bool) -> np.ndarray:
    """Where each column comes from: as far as its cell has been stretched, float64 ``[side]``.

    Args:
        steps: how much each cell is stretched, the last for what the division leaves over.
        side: in pixels.
        normalized: the cells together keep their length.
    """
    cell, within, last = _cells(side, len(steps) - 1)
    unit = side // (len(steps) - 1)
    if normalized:
        steps[-1] *= last / unit
        steps *= side / unit / steps.sum()
    # Beyond the last cell albumentations leaves zeros, in pictures of fewer than 20 pixels.
    lengths = np.zeros(max(cell[-1] + 1, len(steps)))
    lengths[: len(steps)] = unit * steps
    starts = lengths.cumsum() - lengths
    starts[len(steps) :] = 0
    found: np.ndarray = starts[cell] + lengths[cell] * within
    return found


@lru_cache(maxsize=32)
def _cells(side: int, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Of each column, its cell and how far in it lies, 0 to 1; the length of the last cell."""
    unit = side // count
    cell, place = np.divmod(np.arange(side), unit)
    last = min(side, (count + 1) * unit) - count * unit
    length = np.where(cell == count, last, unit)
    return cell, place / np.maximum(length - 1, 1), last


class OneOf(Step):
    """Draws one of several steps."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self.steps = [make_step(inner) for inner in transform.transforms]

    def fires(self, draws: Draws) -> bool:
        return draws.py.random() < self.p

    def __call__(self, image: np.ndarray, draws: Draws) -> "np.ndarray | Warp":
        shares = self.transform.transforms_ps
        return self.steps[draws.numpy.choice(len(shares), p=shares)](image, draws)


KNOWN: dict[type, type[Step]] = {
    A.ShiftScaleRotate: ShiftScaleRotate,
    A.GridDistortion: GridDistortion,
    A.Rotate: Rotate,
    A.HorizontalFlip: Flip,
    A.Blur: Pixels,
    A.CLAHE: Pixels,
    A.RandomBrightnessContrast: Pixels,
    A.OneOf: OneOf,
}


def make_step(transform: Any) -> Step:
    """The fast step for a transform of albumentations, or albumentations' own."""
    kind = KNOWN.get(type(transform), Step)
    return Step(transform) if getattr(transform, "crop_border", False) else kind(transform)


class FastPipeline:
    """What ``albumentations.Compose`` of the transforms would make of a picture.

    Args:
        transforms: of albumentations, their arguments checked.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.steps = [make_step(transform) for transform in transforms]

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """From uint8 ``[H, W, 3]`` to the same, drawn from ``seed``."""
        draws = Draws(seed)
        draws.py.random()  # Compose draws whether to begin
        waiting: Warp | None = None  # for a neighbour
        for step in self.steps:
            if not step.fires(draws):
                continue
            warps = isinstance(step, ShiftScaleRotate | GridDistortion | Rotate | Flip)
            if waiting is not None and not warps:
                image, waiting = waiting(image), None
            drawn = step(image, draws)
            if not isinstance(drawn, Warp):
                image = drawn
                continue
            joined = None if waiting is None else waiting.then(drawn, image.shape)
            if waiting is not None and joined is None:
                image = waiting(image)
            waiting = joined or drawn
        return image if waiting is None else waiting(image)
