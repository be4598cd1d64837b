"""Geometric warps by OpenCV; two of them can often be joined into one."""

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np

Inverse = tuple[float, ...]  # rows of a matrix from output to input: two, or three of a homography
Grid = tuple[np.ndarray, np.ndarray]  # source column of each output column, and the same for rows
IDENTITY: Inverse = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Warp:
    """Output pixel (x, y) is the input at ``(a gx + b gy + c, d gx + e gy + f)``.

    (gx, gy) is the grid at (x, y), or (x, y) itself without a grid. A ``perspective`` has a third
    row, by which both are divided.
    """

    kind: Literal["affine", "grid", "flip", "perspective"]
    inverse: Inverse
    grid: Grid | None = None
    border: int = cv2.BORDER_REPLICATE
    fill: Any = 0
    interpolation: int = cv2.INTER_LINEAR

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Warp RGB uint8 ``[H, W, 3]``; returns the same shape."""
        if self.kind == "flip":
            return cv2.flip(image, 1)
        # OpenCV gathers pixels of four channels in two thirds of the time that three channels
        # take, with the same values.
        rgba = self._warp(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA))
        return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)

    def _warp(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if self.kind == "perspective" and self.grid is None:
            return cv2.warpPerspective(
                image,
                self.matrix(),
                (width, height),
                flags=self.interpolation | cv2.WARP_INVERSE_MAP,
                borderMode=self.border,
                borderValue=self.fill,
            )
        if self.grid is None:
            return cv2.warpAffine(
                image,
                np.array(self.inverse).reshape(2, 3),
                (width, height),
                flags=self.interpolation | cv2.WARP_INVERSE_MAP,
                borderMode=self.border,
                borderValue=self.fill,
            )
        a, b, c, d, e, f = self.inverse[:6]
        gx, gy = self.grid
        x, y = _maps(height, width, threading.get_ident())
        np.add((a * gx + c).astype(np.float32), (b * gy).astype(np.float32)[:, None], out=x)
        np.add((d * gx).astype(np.float32), (e * gy + f).astype(np.float32)[:, None], out=y)
        if self.kind == "perspective":
            g, h, i = self.inverse[6:]
            depth = (g * gx + i).astype(np.float32) + (h * gy).astype(np.float32)[:, None]
            x /= depth
            y /= depth
        return cv2.remap(
            image, x, y, self.interpolation, borderMode=self.border, borderValue=self.fill
        )

    def matrix(self) -> np.ndarray:
        """From output to input, float64 ``[3, 3]``, without the grid."""
        rows = self.inverse if len(self.inverse) == 9 else (*self.inverse, 0.0, 0.0, 1.0)
        return np.array(rows).reshape(3, 3)

    def then(self, other: "Warp", shape: tuple[int, ...]) -> "Warp | None":
        """This warp followed by ``other`` as one warp; None if that would change the picture.

        Each warp fills the outside of the picture on its own, so two can be joined only if one of
        them never samples outside (a flip, or a grid after clipping). A perspective is joined with
        affine warps, perspectives and a grid after it, where both repeat the border: what the first
        of the two moves out of the frame, the second may bring back, which is nearer to a camera.

        Args:
            other: the warp that is applied afterwards.
            shape: shape of the picture, ``(H, W, ...)`` in pixels.
        """
        height, width = shape[:2]
        joinable = (cv2.BORDER_REPLICATE, cv2.INTER_LINEAR)
        both_joinable = (
            (self.border, self.interpolation) == (other.border, other.interpolation) == joinable
        )
        if "perspective" in (self.kind, other.kind):
            flips = "flip" in (self.kind, other.kind)
            if not (flips or both_joinable) or (self.grid is not None and not flips):
                return None
            if other.grid is not None:
                return None if flips else replace(self, grid=other.clipped(width, height))
            if self.grid is not None:  # the flip follows: its columns are read in reverse
                return replace(self, grid=(self.grid[0][::-1], self.grid[1]))
            rows = tuple((self.matrix() @ other.matrix()).ravel().tolist())
            frame = other if self.kind == "flip" else self
            return replace(frame, kind="perspective", inverse=rows)
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
        if (self.kind, other.kind) == ("affine", "grid") and both_joinable:
            return replace(self, grid=other.clipped(width, height))
        return None

    def clipped(self, width: int, height: int) -> Grid:
        """The grid of a ``grid`` warp, with no position outside the picture."""
        assert self.grid is not None
        return self.grid[0].clip(0, width - 1), self.grid[1].clip(0, height - 1)


@lru_cache(maxsize=8)
def _maps(height: int, width: int, thread: int) -> np.ndarray:
    """A buffer for positions, float32 ``[2, H, W]``; allocating it takes longer than filling it."""
    return np.empty((2, height, width), np.float32)
