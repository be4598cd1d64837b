"""Which pictures a round of self-training takes."""

import numpy as np
import pytest

from product_cls.selftrain.choose import ALL, by_view, choose, chosen, view_share


def test_the_share_of_a_view_grows_from_its_confidence_to_all() -> None:
    assert [view_share(0.6, k, 3) for k in (1, 2, 3)] == pytest.approx([0.6, 0.8, 1.0])
    assert view_share(0.6, 1, 1) == 0.6


def test_each_predicted_class_keeps_its_most_confident_pictures() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.45, 0.55], [0.4, 0.6]])
    assert chosen(scores, 0.5).tolist() == [0, 1, 5]
    assert chosen(scores, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen(np.full((4, 2), 0.5), 0.5).tolist() == [0, 1]  # ties: by the row


def test_views_that_the_teacher_knows_well_come_first() -> None:
    sure, unsure = np.tile([[0.98, 0.02]], (10, 1)), np.tile([[0.6, 0.4]], (10, 1))
    scores, views = np.concatenate([sure, unsure]), np.repeat([0.0, 60.0], 10)
    rows, shares = choose(scores, views, 1, 3)
    assert shares == {"0": 1.0, "60": 0.6}
    assert rows.tolist() == [*range(10), *range(10, 16)]
    assert choose(scores, views, 3, 3)[1] == {"0": 1.0, "60": 1.0}


def test_pictures_without_a_view_are_together() -> None:
    assert {k: rows.tolist() for k, rows in by_view(None, 3).items()} == {ALL: [0, 1, 2]}
    mixed = by_view(np.array(["top", "", "side"]), 3)
    assert {k: rows.tolist() for k, rows in mixed.items()} == {
        "side": [2],
        "top": [0],
        "unknown view": [1],
    }
