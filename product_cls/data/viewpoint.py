"""A change of the camera's viewpoint, imitated by a homography of the picture."""

import math
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from pydantic import Field, field_validator

from product_cls.data.warps import Warp

STEEPEST = 80.0  # degrees; beyond it, the picture is nearly a line


def tilt(pitch: float, yaw: float, field_of_view: float) -> np.ndarray:
    """The homography of a picture that a camera sees from another angle.

    The picture stands upright at the place where its longer side fills the field of view. It is
    turned about its vertical axis by ``yaw`` and then about the camera's horizontal axis by
    ``pitch``, and seen through a pinhole. This shortens it and makes its edges converge.

    Args:
        pitch: degrees that the camera rises; the upper edge then comes nearer.
        yaw: degrees about the vertical axis.
        field_of_view: of the camera over the longer side, in degrees, above 0 and below 180.

    Returns:
        float64 ``[3, 3]``, from the picture to its new place. The unit is half of the longer side,
        the origin the centre, x to the right and y down.
    """
    a, b = math.radians(pitch), math.radians(yaw)
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    turned = about_x @ about_y
    distance = 1 / math.tan(math.radians(field_of_view) / 2)
    # Points of the picture are (x, y, 0): the third column gives way to the camera's distance.
    homography = turned * [[distance], [distance], [1]]
    homography[:, 2] = 0, 0, distance
    return homography


class Foreshorten(A.ImageOnlyTransform):
    """Shows the picture as a camera at another pitch and yaw would see it; see ``tilt``.

    A front that training shows at pitch 0 or 30 looks shorter, and converges, at pitch 60. What
    only the new angle shows, such as the top of a box, cannot be made from the picture.

    Args:
        pitch: range of the change in degrees, within -80 to 80; the camera rises by positive
            values.
        yaw: range of the turn about the vertical axis in degrees, within -80 to 80.
        field_of_view: of the camera in degrees, 5 to 120; the wider, the more edges converge.
        border_mode: OpenCV's number for pixels from outside the picture; 1 repeats its border.
        fill: grey value from outside with ``border_mode`` 0, 0 to 255.
        p: share of the pictures to change, in [0, 1].
    """

    class InitSchema(BaseTransformInitSchema):
        pitch: tuple[float, float]
        yaw: tuple[float, float]
        field_of_view: float = Field(ge=5, le=120)
        border_mode: int = Field(ge=0, le=4)
        fill: int = Field(ge=0, le=255)

        @field_validator("pitch", "yaw")
        @classmethod
        def check_range(cls, degrees: tuple[float, float]) -> tuple[float, float]:
            low, high = degrees
            if not -STEEPEST <= low <= high <= STEEPEST:
                raise ValueError(
                    f"{list(degrees)}; allowed: [low, high] within {-STEEPEST:g} to {STEEPEST:g}"
                )
            return degrees

    def __init__(
        self,
        pitch: tuple[float, float] = (-20.0, 50.0),
        yaw: tuple[float, float] = (-15.0, 15.0),
        field_of_view: float = 50.0,
        border_mode: int = cv2.BORDER_REPLICATE,
        fill: int = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.pitch, self.yaw, self.field_of_view = pitch, yaw, field_of_view
        self.border_mode, self.fill = border_mode, fill

    def draw(self, stream: random.Random, shape: tuple[int, ...]) -> Warp:
        """The warp of one draw.

        Args:
            stream: source of the draw.
            shape: of the picture, ``(H, W, ...)`` in pixels.
        """
        forward = tilt(stream.uniform(*self.pitch), stream.uniform(*self.yaw), self.field_of_view)
        height, width = shape[:2]
        half = max(height, width) / 2
        to_pixels = np.array([[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]])
        inverse = to_pixels @ np.linalg.inv(forward) @ np.linalg.inv(to_pixels)
        matrix = tuple((inverse / inverse[2, 2]).ravel().tolist())
        return Warp("perspective", matrix, None, self.border_mode, (self.fill,) * 3)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return {"warp": self.draw(self.py_random, params["shape"])}

    def apply(self, img: np.ndarray, warp: Warp, **params: Any) -> np.ndarray:
        return warp(img)
