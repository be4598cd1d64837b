"""Labels that changed between two folds, whose predictions have no picture in common."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from product_cls.inference.truth import Truth, check_one_truth
from product_cls.tasks import build_task

TASK = build_task({"name": "single_label", "label": "label", "classes": ["cola", "milk"]})


def made(ids: str, *targets: int) -> Truth:
    return Truth(np.array([*ids]), np.array(targets))


def test_a_label_that_changed_between_runs_is_refused(refused: Any) -> None:
    first, second = made("abcd", 0, 1, 0, 1), made("dbae", 1, 0, 0, 1)
    with refused("Runs 'one' and 'two'", "labels of 1 picture: 'b' (milk, then cola)"):
        check_one_truth([("one", first), ("two", second)], TASK)
    third = made("xz", 0, 0)
    check_one_truth([("one", first), ("three", third)], TASK)  # no picture in common


def test_labels_survive_the_file(tmp_path: Path, refused: Any) -> None:
    made("ab", 0, -1).save(tmp_path / "labels.npz")
    read = Truth.load(tmp_path / "labels.npz")
    assert read.id.tolist() == ["a", "b"] and read.target.tolist() == [0, -1]
    np.savez(tmp_path / "other.npz", id=np.array(["a"]), target=np.zeros(2))
    with refused("is not a file of labels"):
        Truth.load(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is not a file of labels"):
        Truth.load(tmp_path / "broken.npz")
