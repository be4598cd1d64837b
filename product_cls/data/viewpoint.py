"""Changes of the camera's viewpoint, imitated by warps of the picture.

Strengths are degrees. ``Augment`` scales them while it ramps up, so that training starts gently.
"""

import itertools
import math
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from pydantic import Field, field_validator

from product_cls.data.warps import IDENTITY, Warp

STEEPEST = 80.0  # degrees; beyond it, the picture is nearly a line
FIELD_OF_VIEW = 50.0  # degrees, of the camera in ``seen_at``
NEAREST = 0.1  # a corner's distance from the camera, as a share of the centre's


def _rotation(pitch: float, yaw: float) -> np.ndarray:
    """By ``yaw`` about the vertical axis and then by ``pitch`` about the horizontal one."""
    a, b = math.radians(pitch), math.radians(yaw)
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    return about_x @ about_y


def _distance(field_of_view: float) -> float:
    """Of the camera from a picture whose longer side, of length 2, fills its field of view."""
    return 1 / math.tan(math.radians(field_of_view) / 2)


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
    distance = _distance(field_of_view)
    # Points of the picture are (x, y, 0): the third column gives way to the camera's distance.
    homography = _rotation(pitch, yaw) * [[distance], [distance], [1]]
    homography[:, 2] = 0, 0, distance
    return homography


def keystone(pitch: float, yaw: float, field_of_view: float) -> np.ndarray:
    """``tilt`` without its shortening: edges converge, and both axes keep their length.

    So looks a picture that a camera sees at an angle and that was stretched upright again, and a
    tall product that stands close to the camera.

    Args:
        pitch, yaw, field_of_view: as for ``tilt``.

    Returns:
        As ``tilt``.
    """
    longer = np.diag([1 / math.cos(math.radians(yaw)), 1 / math.cos(math.radians(pitch)), 1.0])
    return longer @ tilt(pitch, yaw, field_of_view)


def off_axis(pitch: float, yaw: float, field_of_view: float) -> np.ndarray:
    """The homography of a picture whose camera points past it, as at the edge of a wide lens.

    The camera stays where it is and turns, which is exact for scenes of any depth. Away from the
    lens's axis, pictures are stretched outwards. The centre of the picture keeps its place, and
    lines across the shift keep their scale there.

    Args:
        pitch: degrees between the axis and the picture, upwards.
        yaw: the same to the right.
        field_of_view: as for ``tilt``.

    Returns:
        As ``tilt``.
    """
    distance = _distance(field_of_view)
    lens = np.diag([distance, distance, 1.0])
    turned = lens @ _rotation(pitch, yaw) @ np.linalg.inv(lens)
    x, y, depth = turned[:, 2]
    centred: np.ndarray = np.array([[depth, 0, -x], [0, depth, -y], [0, 0, 1]]) @ turned
    return centred


def _in_pixels(forward: np.ndarray, shape: tuple[int, ...], border: int, fill: int) -> Warp:
    """The warp of a homography as ``tilt`` returns it, for pictures of a shape ``(H, W, ...)``."""
    height, width = shape[:2]
    half = max(height, width) / 2
    to_pixels = np.array([[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]])
    inverse = to_pixels @ np.linalg.inv(forward) @ np.linalg.inv(to_pixels)
    rows = tuple((inverse / inverse[2, 2]).ravel().tolist())
    return Warp("perspective", rows, None, border, (fill,) * 3)


def seen_at(picture: np.ndarray, pitch: float) -> np.ndarray:
    """A picture as a camera sees it that has risen by some degrees.

    Args:
        picture: RGB uint8 ``[H, W, 3]``; returned as it is for a pitch of 0.
        pitch: degrees, -80 to 80.
    """
    if pitch == 0:
        return picture
    forward = tilt(pitch, 0.0, FIELD_OF_VIEW)
    return _in_pixels(forward, picture.shape, cv2.BORDER_REPLICATE, 0)(picture)


class ViewpointStep(A.ImageOnlyTransform):
    """A step that draws a warp of the picture.

    Attributes:
        strength: of this draw, 0 (the picture as it is) to 1; ``Augment`` sets it.
    """

    strength = 1.0

    def draw(self, stream: random.Random, shape: tuple[int, ...]) -> Warp:
        """The warp of one draw.

        Args:
            stream: source of the draw.
            shape: of the picture, ``(H, W, ...)`` in pixels.
        """
        raise NotImplementedError

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return {"warp": self.draw(self.py_random, params["shape"])}

    def apply(self, img: np.ndarray, warp: Warp, **params: Any) -> np.ndarray:
        return warp(img)


def _check_degrees(degrees: tuple[float, float], most: float) -> tuple[float, float]:
    low, high = degrees
    if not -most <= low <= high <= most:
        raise ValueError(f"{list(degrees)}; allowed: [low, high] within {-most:g} to {most:g}")
    return degrees


class Homography(ViewpointStep):
    """A viewpoint step that is a homography of pitch and yaw.

    Args:
        pitch: range of the change in degrees, within -80 to 80 (-45 to 45 for ``LensShift``).
        yaw: range of the turn about the vertical axis in degrees, within the same bounds.
        field_of_view: of the camera in degrees, 5 to 120; the wider, the more edges converge.
        border_mode: OpenCV's number for pixels from outside the picture; 1 repeats its border.
        fill: grey value from outside with ``border_mode`` 0, 0 to 255.
        p: share of the pictures to change, in [0, 1].
    """

    steepest = STEEPEST
    matrix = staticmethod(tilt)

    class InitSchema(BaseTransformInitSchema):
        pitch: tuple[float, float]
        yaw: tuple[float, float]
        field_of_view: float = Field(ge=5, le=120)
        border_mode: int = Field(ge=0, le=4)
        fill: int = Field(ge=0, le=255)

        @field_validator("pitch", "yaw")
        @classmethod
        def check_range(cls, degrees: tuple[float, float]) -> tuple[float, float]:
            return _check_degrees(degrees, STEEPEST)

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
        corners = np.array([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
        for a, b in itertools.product(pitch, yaw):
            depth = corners @ self.matrix(a, b, field_of_view)[2]
            if depth.min() < NEAREST * self.matrix(a, b, field_of_view)[2, 2]:
                raise ValueError(
                    f"with pitch {a:g} and yaw {b:g}, a camera of field_of_view={field_of_view:g} "
                    f"touches the picture; allowed: smaller angles or a smaller field of view"
                )

    def draw(self, stream: random.Random, shape: tuple[int, ...]) -> Warp:
        pitch, yaw = (self.strength * stream.uniform(*range_) for range_ in (self.pitch, self.yaw))
        forward = self.matrix(pitch, yaw, self.field_of_view)
        return _in_pixels(forward, shape, self.border_mode, self.fill)


class Foreshorten(Homography):
    """Shows the picture as a camera at another pitch and yaw would see it; see ``tilt``.

    A front that training shows at pitch 0 or 30 looks shorter, and converges, at pitch 60. What
    only the new angle shows, such as the top of a box, cannot be made from the picture. The camera
    rises by positive values of ``pitch``. Takes the arguments of ``Homography``.
    """


class Keystone(Homography):
    """Makes edges converge without shortening the picture; see ``keystone``.

    Takes the arguments of ``Homography``.
    """

    matrix = staticmethod(keystone)

    def __init__(
        self,
        pitch: tuple[float, float] = (-30.0, 30.0),
        yaw: tuple[float, float] = (-15.0, 15.0),
        field_of_view: float = 50.0,
        border_mode: int = cv2.BORDER_REPLICATE,
        fill: int = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(pitch, yaw, field_of_view, border_mode, fill, p)


class LensShift(Homography):
    """Shows the picture as at the edge of a wide lens; see ``off_axis``.

    Takes the arguments of ``Homography``; angles are within -45 to 45 degrees.
    """

    matrix = staticmethod(off_axis)

    class InitSchema(Homography.InitSchema):
        @field_validator("pitch", "yaw")
        @classmethod
        def check_range(cls, degrees: tuple[float, float]) -> tuple[float, float]:
            return _check_degrees(degrees, 45.0)

    def __init__(
        self,
        pitch: tuple[float, float] = (-25.0, 25.0),
        yaw: tuple[float, float] = (-25.0, 25.0),
        field_of_view: float = 50.0,
        border_mode: int = cv2.BORDER_REPLICATE,
        fill: int = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(pitch, yaw, field_of_view, border_mode, fill, p)


class TurnCylinder(ViewpointStep):
    """Turns the label of an upright bottle or can about its axis.

    The picture is taken for the front half of a cylinder in the middle. Columns move as on its
    surface: those that turn to the front widen, those that turn away narrow, and where the hidden
    half would appear, the last visible column is repeated. What lies beside the cylinder stays.

    Args:
        turn: range in degrees, within -80 to 80; positive values turn the label to the right.
        width: range of the cylinder's width as a share of the picture's, within .2 to 1.
        border_mode: OpenCV's number for pixels from outside the picture; none are needed.
        p: share of the pictures to change, in [0, 1].
    """

    class InitSchema(BaseTransformInitSchema):
        turn: tuple[float, float]
        width: tuple[float, float]
        border_mode: int = Field(ge=0, le=4)

        @field_validator("turn")
        @classmethod
        def check_turn(cls, degrees: tuple[float, float]) -> tuple[float, float]:
            return _check_degrees(degrees, STEEPEST)

        @field_validator("width")
        @classmethod
        def check_width(cls, shares: tuple[float, float]) -> tuple[float, float]:
            if not 0.2 <= shares[0] <= shares[1] <= 1:
                raise ValueError(f"{list(shares)}; allowed: [low, high] within 0.2 to 1")
            return shares

    def __init__(
        self,
        turn: tuple[float, float] = (-25.0, 25.0),
        width: tuple[float, float] = (0.5, 0.9),
        border_mode: int = cv2.BORDER_REPLICATE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.turn, self.width, self.border_mode = turn, width, border_mode

    def draw(self, stream: random.Random, shape: tuple[int, ...]) -> Warp:
        turn = math.radians(self.strength * stream.uniform(*self.turn))
        radius = stream.uniform(*self.width) * shape[1] / 2
        columns, rows = np.arange(float(shape[1])), np.arange(float(shape[0]))
        centre = (shape[1] - 1) / 2
        across = (columns - centre) / radius
        on_label = np.abs(across) <= 1
        place = np.arcsin(across.clip(-1, 1)) - turn
        source = centre + radius * np.sin(place.clip(-math.pi / 2, math.pi / 2))
        grid = (np.where(on_label, source, columns), rows)
        return Warp("grid", IDENTITY, grid, self.border_mode, 0)
