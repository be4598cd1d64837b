"""Points in common: of a label seen from two angles, and of things that share nothing."""

import cv2
import numpy as np
from labels import photographed, printed

from product_cls.data.viewpoint import tilt
from product_cls.matching.sift import FEWEST, common_points, local_features


def test_a_label_is_recognised_from_another_angle_and_points_lie_where_they_moved() -> None:
    common = common_points(local_features(printed(3)), local_features(photographed(3, 30)))
    assert len(common) > 30
    matrix = tilt(30, 0, 50)
    centred = np.hstack([2 * common.first - 1, np.ones((len(common), 1))]) @ matrix.T
    expected = (centred[:, :2] / centred[:, 2:] + 1) / 2
    assert np.median(np.abs(expected - common.second)) < 0.01


def test_other_labels_share_next_to_nothing() -> None:
    features = [local_features(photographed(label, 10 * label)) for label in range(5)]
    counts = [
        len(common_points(features[i], features[j])) for i in range(5) for j in range(5) if i != j
    ]
    assert np.mean(np.array(counts) == 0) > 0.7 and max(counts) < 15


def test_a_mirrored_label_is_another_label() -> None:
    mirrored = local_features(np.ascontiguousarray(printed(3)[:, ::-1]))
    assert len(common_points(local_features(printed(3)), mirrored)) == 0


def test_the_same_pictures_have_the_same_points_each_time() -> None:
    first, second = local_features(printed(1)), local_features(photographed(1, 20))
    once, again = (common_points(first, second) for _ in range(2))
    np.testing.assert_array_equal(once.first, again.first)
    np.testing.assert_array_equal(once.second, again.second)


def test_small_and_large_pictures_are_compared_at_their_own_scale() -> None:
    large = cv2.resize(photographed(2, 10), (1500, 1500), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(printed(2), (96, 96), interpolation=cv2.INTER_AREA)
    common = common_points(local_features(large), local_features(small))
    assert len(common) >= FEWEST and common.first.max() <= 1


def test_a_blank_picture_has_nothing_in_common_with_any() -> None:
    blank = local_features(np.full((40, 60, 3), 128, np.uint8))
    assert len(blank.points) == 0 and len(common_points(blank, local_features(printed(0)))) == 0
    point = local_features(np.zeros((1, 1, 3), np.uint8))
    assert len(common_points(point, blank)) == 0
