"""Predictions of several runs in one order of pictures, measured against one truth."""

from typing import Any

import numpy as np
import pytest
from task_specs import HEADS, LABELS, SINGLE

from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions

RETRIEVAL = {**SINGLE, "name": "retrieval", "vote": {"k": 1}}


def made(task: dict[str, Any], target: Any, ids: str = "xyz") -> Predictions:
    columns = 4 if task is HEADS else 2
    scores = np.full((len(ids), columns), 1 / 2, np.float32)
    names = np.array([f"class {k}" for k in range(columns)])
    return Predictions(np.array([*ids]), scores, scores, names, task, np.array(target))


@pytest.mark.parametrize(
    ("task", "first", "second", "words"),
    [
        (SINGLE, [0, 1, -1], [0, 0, -1], "'y' (milk, then cola)"),
        (SINGLE, [0, 1, -1], [0, 1, 1], "'z' (no label, then milk)"),
        (SINGLE, [0, 1, -2], [0, 1, 1], "'z' (a label unknown to training, then milk)"),
        (RETRIEVAL, [0, 1, 0], [1, 1, 0], "'x' (cola, then milk)"),
        (HEADS, [[0, 1], [0, 0], [1, 1]], [[0, 1], [0, 0], [1, 0]], "'z' (milk/small, then mil"),
        (LABELS, [[0, 1], [1, 0], [1, 1]], [[0, 1], [0, 0], [1, 1]], "'y' (cola, then none)"),
    ],
)
def test_labels_that_changed_between_runs_are_refused(
    task: dict[str, Any], first: Any, second: Any, words: str, refused: Any
) -> None:
    one, two = made(task, first), made(task, second)
    with refused("Runs 'one' and 'two'", "different labels of 1 picture:", words):
        align([("one", one), ("two", two)])
    with refused("different labels of 1 picture:", words):  # in whatever order they predict
        align([("one", one), ("two", two.rows(np.array([2, 0, 1])))])
    align([("one", one), ("two", one)])


def test_the_first_pictures_are_named(refused: Any) -> None:
    one, two = made(SINGLE, [0] * 5, "vwxyz"), made(SINGLE, [1] * 5, "vwxyz")
    with refused("'v' (cola, then milk), 'w'", "'x' (cola, then milk) and 2 more; repeat"):
        align([("one", one), ("two", two)])
