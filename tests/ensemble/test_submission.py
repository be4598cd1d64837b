"""Every row of the sample file is answered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_specs import HEADS, LABELS, SINGLE

from product_cls.ensemble.table import default_answers, write_submission
from product_cls.inference.predictions import Predictions
from product_cls.tasks import build_task


@pytest.mark.parametrize(
    ("task", "scores", "rows"),
    [
        (SINGLE, [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], ["z.jpg,milk", "b.jpg,milk", "x.jpg,cola"]),
        (
            HEADS,
            [[0.9, 0.1, 0.2, 0.8], [0.2, 0.8, 0.3, 0.7], [0.1, 0.9, 0.1, 0.9]],
            ["z.jpg,milk,small", "b.jpg,milk,small", "x.jpg,cola,small"],
        ),
        (LABELS, [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], ["z.jpg,0,1", "b.jpg,0,1", "x.jpg,1,0"]),
    ],
)
def test_pictures_that_could_not_be_read_are_answered_by_default(
    task: dict[str, Any], scores: Any, rows: list[str], tmp_path: Path
) -> None:
    values = np.array(scores, np.float32)
    predictions = Predictions(
        np.array(["test/x.jpg", "test/y.jpg", "test/z.jpg"]),
        values,
        values,
        np.array(build_task(task).classes),
        task,
        np.zeros((3, 2), int) - 1 if task is not SINGLE else np.zeros(3, int) - 1,
        asked=np.array(["test/z.jpg", "test/b.jpg", "test/x.jpg", "test/y.jpg"]),
    )
    predictions.save(tmp_path / "test.npz")
    predictions = Predictions.load(tmp_path / "test.npz", stored=True)
    write_submission(predictions, tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_text().splitlines()[1:4] == rows
    sentence = default_answers(predictions)
    assert sentence is not None and "answers 1 picture" in sentence and "test/b.jpg" in sentence
    part = predictions.rows(np.arange(3))
    assert part.asked is not None and default_answers(part) == sentence
