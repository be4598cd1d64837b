"""Classes that cannot be right are named, whatever step has caused it."""

from typing import Any

import pandas as pd
import pytest

from product_cls.tasks import Task
from product_cls.tasks.multi_head import MultiHead
from product_cls.tasks.multi_label import MultiLabel
from product_cls.tasks.retrieval import Retrieval
from product_cls.tasks.single_label import SingleLabel
from product_cls.training.class_checks import check_classes_left, unlearned_classes

SPLITS = ["train", "train", "train", "val", "val", "test", "test"]


def warning_of(task: Task, **labels: Any) -> str | None:
    samples = pd.DataFrame({"id": [*"abcdefg"], "split": SPLITS, **labels})
    task.fit(samples)
    return unlearned_classes(
        task, *(samples[samples["split"] == s] for s in ("train", "val", "test"))
    )


@pytest.mark.parametrize("kind", [SingleLabel, Retrieval])
def test_one_label(kind: type[SingleLabel]) -> None:
    text = warning_of(kind(), label=["cola", "milk", "milk", "cola", "juice", "soda", "milk"])
    assert text is not None and "juice (validation), soda (test)" in text
    assert warning_of(kind(), label=["cola", "milk", "milk", "cola", "milk", None, "milk"]) is None
    text = warning_of(kind(), label=["cola", "milk", "milk", "cola", "juice", "juice", "milk"])
    # The gallery holds the validation pictures, so a test picture of juice can be named.
    both = "juice (validation and test)" if kind is SingleLabel else "juice (validation)"
    assert text is not None and both in text


def test_several_heads_and_labels() -> None:
    heads = MultiHead({"brand": {}, "size": {"classes": ["big", "small", "huge"]}})
    text = warning_of(
        heads,
        brand=["x", "y", "x", "z", None, "w", "x"],
        size=["big", "small", None, None, "big", "big", "small"],
    )
    assert text is not None
    assert "brand=z (validation), brand=w (test), size=huge (no picture)" in text
    text = warning_of(MultiLabel(), p=[1, 0, 1, 0, 1, 0, 1], q=[0, 0, 0, 1, 0, 1, 0])
    assert text is not None and "a class of other parts" in text
    assert "q (validation and test)" in text


def test_a_class_without_a_readable_picture_is_refused(refused: Any) -> None:
    samples = pd.DataFrame({"id": [*"abcde"], "split": "train", "label": [*"ppqqr"]})
    task = SingleLabel()
    task.fit(samples)
    check_classes_left(task, samples, samples.drop(index=[0, 2]))
    with refused("data.on_unreadable=drop leaves no picture of the class r", "repair"):
        check_classes_left(task, samples, samples.drop(index=[4]))
    with refused("2 classes q, r"):
        check_classes_left(task, samples, samples.drop(index=[2, 3, 4]))
