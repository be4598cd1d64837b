"""Points that two pictures have in common, by SIFT and a homography.

A flat label that two cameras see is the same up to a homography, so matched points that agree on
one show the same label (Lowe 2004; Arandjelovic & Zisserman 2012 for RootSIFT; Barath et al. 2020
for MAGSAC++).
"""

from dataclasses import dataclass

import cv2
import numpy as np

MOST_POINTS = 400  # of a picture, the strongest
SIDES = 256, 1024  # pixels; a picture whose longer side is shorter or longer is resized to it
CONTRAST = 0.02  # half of OpenCV's threshold, because product pictures can be small
FEWEST = 8  # points that agree; different labels have up to six by chance
ROUNDS = 300  # of MAGSAC at most
RATIO = 0.9  # a match must be nearer than this share of the second nearest distance
NEAR = 0.02  # error of a matched point, as a share of the picture's longer side
SCALES = (0.02, 50.0)  # allowed determinants of the homography at the picture's centre


@dataclass(frozen=True)
class LocalFeatures:
    """Points of a picture and what surrounds them.

    Attributes:
        points: x and y as shares of the longer side, float32 ``[n, 2]``.
        descriptors: RootSIFT times 255, uint8 ``[n, 128]``.
    """

    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True)
class CommonPoints:
    """Points that agree on one homography, as shares of the longer side of their picture.

    Attributes:
        first, second: float32 ``[m, 2]``, in the order of their matches.
    """

    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def none(cls) -> "CommonPoints":
        return cls(np.empty((0, 2), np.float32), np.empty((0, 2), np.float32))


def local_features(picture: np.ndarray) -> LocalFeatures:
    """SIFT features of a picture at its own resolution, within ``SIDES``.

    Args:
        picture: RGB uint8 ``[H, W, 3]``.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    longer = max(grey.shape)
    side = min(max(longer, SIDES[0]), SIDES[1])
    if side != longer:
        # SIFT finds few points in a small picture, and enlarged it shows more of those it has.
        how = cv2.INTER_AREA if side < longer else cv2.INTER_CUBIC
        grey = cv2.resize(grey, None, fx=side / longer, fy=side / longer, interpolation=how)
    detector = cv2.SIFT.create(nfeatures=MOST_POINTS, contrastThreshold=CONTRAST)
    found, described = detector.detectAndCompute(grey, None)
    if not found:
        return LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    points = np.array([point.pt for point in found], np.float32) / max(grey.shape)
    root = np.sqrt(described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6))
    return LocalFeatures(points, np.rint(255 * root).astype(np.uint8))


def common_points(first: LocalFeatures, second: LocalFeatures) -> CommonPoints:
    """Mutual matches that agree on one homography (MAGSAC++); the same inputs give the same points.

    Args:
        first, second: features of two pictures.
    """
    if min(len(first.points), len(second.points)) < FEWEST:
        return CommonPoints.none()
    likeness = _unit(first.descriptors) @ _unit(second.descriptors).T
    nearest, nearest_back = likeness.argmax(axis=1), likeness.argmax(axis=0)
    rows = np.flatnonzero(nearest_back[nearest] == np.arange(len(nearest)))
    columns = nearest[rows]
    best = likeness[rows, columns]
    likeness[rows, columns] = -1
    # Of unit vectors, the squared distance is 2 - 2 * likeness.
    clear = 1 - best < RATIO**2 * (1 - likeness[rows].max(axis=1))
    rows, columns = rows[clear], columns[clear]
    if len(rows) < FEWEST:
        return CommonPoints.none()
    source, target = first.points[rows], second.points[columns]
    try:
        matrix, mask = cv2.findHomography(source, target, cv2.USAC_MAGSAC, NEAR, maxIters=ROUNDS)
    except cv2.error:  # points on one line
        return CommonPoints.none()
    if matrix is None or not _plausible(matrix, source.mean(axis=0)):
        return CommonPoints.none()
    agreeing = mask.ravel().astype(bool)
    if agreeing.sum() < FEWEST:
        return CommonPoints.none()
    return CommonPoints(source[agreeing], target[agreeing])


def _unit(descriptors: np.ndarray) -> np.ndarray:
    rows = descriptors.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.maximum(lengths, 1e-6)


def _plausible(matrix: np.ndarray, centre: np.ndarray) -> bool:
    """Whether a homography neither mirrors the picture nor shrinks it to nothing, at a point."""
    depth = float(matrix[2] @ (*centre, 1.0))
    if depth <= 0:
        return False
    low, high = SCALES
    return bool(low < np.linalg.det(matrix) / depth**3 < high)
