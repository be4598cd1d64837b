import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from product_cls.core.arrays import StoredArray
from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions, summarise
from product_cls.tasks.presentation import top_k

TASK = {"name": "single_label", "label": "label", "classes": ["a", "b"]}


def made(**changes: object) -> Predictions:
    fields = {
        "id": np.array(["x", "y", "z"]),
        "scores": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32),
        "scores_no_tta": np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], np.float32),
        "classes": np.array(["a", "b"]),
        "task": TASK,
        "target": np.array([0, 1, 1]),
        "view": np.array([0.0, 30.0, 30.0]),
    }
    return Predictions(**fields | changes)  # type: ignore[arg-type]


def test_written_without_pickle_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "predictions" / "test.npz"
    made().save(file)
    assert [path.name for path in file.parent.iterdir()] == ["test.npz"]
    with np.load(file, allow_pickle=False) as stored:
        assert stored["scores"].dtype == np.float32
        assert stored["id"].tolist() == ["x", "y", "z"]
    again = Predictions.load(file)
    assert again.task == TASK and again.scores.tolist() == made().scores.tolist()
    made(view=None).save(file)
    assert Predictions.load(file).view is None


def test_scores_stay_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "test.npz"
    made(class_scores=np.asfortranarray(made().scores)).save(file)
    stored = Predictions.load(file, stored=True)
    for name in ("scores", "scores_no_tta", "class_scores"):
        assert isinstance(vars(stored)[name], StoredArray)
        array, original = getattr(stored, name), getattr(made(), name.removeprefix("class_"))
        assert array.dtype == np.float32 and np.array_equal(array, original), name
        assert getattr(stored, name) is not array  # not kept
    assert stored.class_scores_no_tta is None and stored.id.tolist() == ["x", "y", "z"]
    assert summarise(stored, stored.make_task()) == summarise(made(), made().make_task())
    in_memory = stored.in_memory()
    np.savez_compressed(file, **dict(np.load(file)))
    assert np.array_equal(stored.scores, made().scores)
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        _ = stored.scores
    assert np.array_equal(in_memory.scores, made().scores)


def test_no_predictions_file(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK, but no archive")
    np.savez(tmp_path / "b.npz", scores=np.zeros(3))
    for name in ("a.npz", "b.npz", "absent.npz"):
        with pytest.raises(UserError, match=f"{name} is not a predictions file"):
            Predictions.load(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["scores", "scores_no_tta", "class_scores", "embedding"])
def test_scores_that_are_no_numbers_are_neither_written_nor_read(
    name: str, value: float, tmp_path: Path
) -> None:
    file = tmp_path / "test.npz"
    scores = made().scores.copy()
    scores[1, 0] = value
    with pytest.raises(UserError, match=f"'{name}' is not finite .* for 1 of 3 pictures.* row 1"):
        made(**{name: scores}).save(file)
    assert not file.exists()
    np.savez(file, **arrays_of(made()) | {name: scores})
    for stored in (False, True):
        with pytest.raises(UserError, match=f"'{name}' is not finite"):
            Predictions.load(file, stored=stored)


def arrays_of(predictions: Predictions) -> dict[str, Any]:
    fields = {name: array for name, array in vars(predictions).items() if array is not None}
    return fields | {"task": np.array(json.dumps(predictions.task))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": np.array(["x", "y", "y"])}, "'id' holds a name twice"),
        ({"id": np.array(["x", "y"])}, "'scores' is of shape [3, 2] for 2 pictures"),
        ({"id": np.array([1, 2, 3])}, "'id' is of type int64"),
        ({"id": np.array([], str), "scores": np.zeros((0, 2), np.float32)}, "one or more names"),
        ({"scores": np.zeros((3, 3), np.float32)}, "for 3 pictures and 2 classes"),
        ({"scores": np.zeros((3, 2), np.int64)}, "'scores' is of type int64"),
        ({"scores": np.zeros((3, 2))}, "allowed: float32"),
        ({"scores_no_tta": np.zeros(3, np.float32)}, "'scores_no_tta' is of shape [3]"),
        ({"class_scores": np.zeros((2, 2), np.float32)}, "'class_scores' is of shape [2, 2]"),
        ({"embedding": np.zeros((2, 9), np.float32)}, "'embedding' is of shape [2, 9]"),
        ({"classes": np.array(["a", "c"])}, "'classes' and 'task' name different classes"),
        ({"target": np.array([0, 1])}, "'target' is of shape [2]"),
        ({"target": np.array([0, 1, 2])}, "'target' does not fit task=single_label"),
        ({"target": np.array([0, 1, -3])}, "'target' does not fit"),
        ({"target": np.array([0.0, 1, 1])}, "'target' is of type float64"),
        ({"view": np.zeros((3, 1))}, "'view' is of shape [3, 1]"),
        ({"extra": np.zeros(3)}, "it holds 'extra'; allowed: "),
        ({"task": np.array("{")}, "'task' is no JSON that describes a task"),
        ({"task": np.array("[" * 50_000)}, "'task' is no JSON that describes a task"),
        ({"task": np.array('["single_label"]')}, "'task' is no JSON"),
        ({"task": np.array('{"name": "single_label", "deep": 1}')}, "cannot have"),
        ({"task": np.array('{"name": "of my own"}')}, "import its module first"),
        (
            {
                "task": np.array('{"name": "multi_label", "labels": ["a", "b"]}'),
                "target": np.array([[0], [1], [1]]),
            },
            "'target' does not fit task=multi_label",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_disagree(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "test.npz"
    np.savez(file, **arrays_of(made()) | changes)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        Predictions.load(file, stored=True)
    assert str(caught.value).count("\n") == 0
    whole = arrays_of(made())
    np.savez(file, **{name: array for name, array in whole.items() if name != "target"})
    with pytest.raises(UserError, match="it holds no 'target'"):
        Predictions.load(file)


def test_summary_by_view_with_and_without_tta() -> None:
    predictions = made()
    assert summarise(predictions, predictions.make_task()) == {
        "count": 3,
        "accuracy": pytest.approx(2 / 3),
        "accuracy_no_tta": pytest.approx(1 / 3),
        "by_view": {"0": {"accuracy": 1.0}, "30": {"accuracy": 0.5}},
    }
    unknown = made(target=np.array([-1, -1, -1]))
    assert summarise(unknown, unknown.make_task()) == {"count": 3}


def test_top_k_best_first() -> None:
    names, values = top_k(np.array([[0.2, 0.5, 0.3]]), ["a", "b", "c"], 2)
    assert names.tolist() == [["b", "c"]] and values.tolist() == [[0.5, 0.3]]
    assert top_k(np.array([[0.2, 0.8]]), ["a", "b"], 5)[0].tolist() == [["b", "a"]]


def test_arrays_in_memory_must_agree() -> None:
    parts = {
        "id": np.array(["x", "y"]),
        "scores": np.zeros((2, 2), np.float32),
        "scores_no_tta": np.zeros((2, 2), np.float32),
        "classes": np.array(["a", "b"]),
        "task": {"name": "single_label", "label": "label", "classes": ["a", "b"]},
        "target": np.zeros(2, np.int64),
    }
    assert len(Predictions(**parts).id) == 2
    with pytest.raises(ValueError, match="2 ids and 3 targets"):
        Predictions(**parts | {"target": np.zeros(3, np.int64)})
    with pytest.raises(ValueError, match=r"'scores' is of shape \[2, 3\] for 2 pictures"):
        Predictions(**parts | {"scores": np.zeros((2, 3), np.float32)})
