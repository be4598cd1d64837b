from pathlib import Path

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
