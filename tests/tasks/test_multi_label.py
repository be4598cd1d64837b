"""Several labels per picture: targets, decisions, weights and refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from product_cls.core.errors import UserError
from product_cls.losses.multi_label import AsymmetricLoss
from product_cls.tasks import build_task
from product_cls.tasks.multi_label import MultiLabel
from product_cls.tasks.single_label import SingleLabel

SAMPLES = pd.DataFrame(
    {
        "id": list("abcde"),
        "path": list("abcde"),
        "split": ["train", "train", "train", "train", "test"],
        "view": [0, 30, 0, 30, 60],
        "cat": [1, 0, 1, 1, None],
        "dog": [0, 1, 1, 0, None],
    }
)


@pytest.fixture
def task() -> MultiLabel:
    fitted = MultiLabel()
    fitted.fit(SAMPLES)
    return fitted


def test_labels_are_all_columns_without_another_role(task: MultiLabel) -> None:
    assert task.classes == ["cat", "dog"] == task.stratify_by(SAMPLES)
    target = task.encode(SAMPLES)
    assert target.dtype == np.int64
    assert target.tolist() == [[1, 0], [0, 1], [1, 1], [1, 0], [-1, -1]]
    reordered = MultiLabel(["dog", "cat"])
    reordered.fit(SAMPLES)
    assert reordered.encode(SAMPLES)[0].tolist() == [0, 1]
    assert reordered.label != task.label  # other labels have another folds file


def test_scores_are_independent_probabilities(task: MultiLabel) -> None:
    scores = task.scores(torch.tensor([[0.0, 2.0], [-2.0, 2.0]]).bfloat16()).numpy()
    assert scores.dtype == np.float32
    assert scores == pytest.approx(np.array([[0.5, 0.8808], [0.1192, 0.8808]]), abs=1e-4)
    assert task.decide(scores).tolist() == ["dog", "dog"]
    assert task.decide(1 - scores).tolist() == ["", "cat"]
    assert task.normalise_scores(scores) is scores
    assert {k: v.tolist() for k, v in task.submission(scores).items()} == {
        "cat": [0, 0],
        "dog": [1, 1],
    }


def test_pictures_with_unknown_labels_are_not_counted(task: MultiLabel) -> None:
    scores = np.array([[0.9, 0.2], [0.1, 0.6], [0.4, 0.9], [0.9, 0.9], [0.5, 0.5]], np.float32)
    values = task.evaluate(scores, task.encode(SAMPLES))
    assert values["accuracy"] == pytest.approx(6 / 8)
    assert values["exact"] == pytest.approx(2 / 4)
    assert task.evaluate(scores[4:], task.encode(SAMPLES)[4:]) == {}


def test_validation_metrics_equal_evaluate(task: MultiLabel) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((40, 2)).astype(np.float32)
    target = (rng.random((40, 2)) < scores).astype(np.int64)
    metrics = task.metrics()
    for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
        metrics.update(torch.from_numpy(scores[rows]), torch.from_numpy(target[rows]))
    computed = {name: value.item() for name, value in metrics.compute().items()}
    expected = task.evaluate(scores, target)
    # `monitor=val/f1` means the same for every task.
    assert computed == pytest.approx(expected | {"f1": expected["f1_macro"]}, abs=1e-6)
    metrics.reset()
    metrics.update(torch.tensor([[0.9, 0.1]]), torch.tensor([[1, 0]]))
    assert metrics.compute()["accuracy"].item() == 1


def test_validation_metrics_join_all_ranks(task: MultiLabel) -> None:
    metrics = task.metrics()
    [metric] = metrics.values()
    # torchmetrics then passes joined tensors instead of lists of batches.
    metric.dist_sync_fn = lambda part, group=None: [part, part]
    metric.distributed_available_fn = lambda: True
    scores, target = torch.tensor([[0.9, 0.2], [0.1, 0.6]]), torch.tensor([[1, 0], [1, 1]])
    metrics.update(scores, target)
    computed = {name: value.item() for name, value in metrics.compute().items()}
    expected = task.evaluate(scores.numpy(), target.numpy())
    assert computed == pytest.approx(expected | {"f1": expected["f1_macro"]}, abs=1e-6)


def test_warnings_about_labels_that_a_fold_cannot_teach(task: MultiLabel) -> None:
    held_out = np.array([[0, 0], [1, 1]])
    assert task.check_parts(np.array([[1, 0], [0, 1]]), held_out) == []
    assert task.check_parts(np.array([[1, 0], [1, 0]]), held_out) == [
        "Label 'cat': every training picture has it.",
    ]


def test_true_label_scores(task: MultiLabel) -> None:
    scores = np.array([[0.9, 0.2], [0.4, 0.7]])
    rows, probability = task.true_label_scores(scores, np.array([[1, 0], [0, -1]]))
    assert rows.tolist() == [0, 0, 1] and probability.tolist() == pytest.approx([0.9, 0.8, 0.6])


def test_balanced_weights_make_up_for_rarity() -> None:
    task = MultiLabel(weights="balanced")
    task.fit(SAMPLES)
    logits, target = torch.tensor([[0.3, -0.2]]), torch.tensor([[1, 1]])
    weighted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1 / 3, 1.0]))
    assert task.loss(logits, target).item() == pytest.approx(
        weighted(logits, target.float()).item()
    )


def test_weights_of_present_labels_from_a_list() -> None:
    task = MultiLabel(weights=[3, 0.5])
    task.fit(SAMPLES)
    logits, target = torch.tensor([[0.3, -0.2]]), torch.tensor([[1, 1]])
    each = nn.functional.softplus(-logits) * torch.tensor([3, 0.5])
    assert task.loss(logits, target).item() == pytest.approx(each.mean().item())
    with pytest.raises(
        ValueError, match=r"weights=\[1, 2, 3\] has 3 numbers for 2 labels \(cat, dog\)"
    ):
        MultiLabel(weights=[1, 2, 3]).fit(SAMPLES)


def test_spec_rebuilds_the_task_with_its_thresholds(task: MultiLabel) -> None:
    assert task.thresholds.tolist() == [0.5, 0.5]
    spec = task.spec() | {"thresholds": [0.3, 0.7]}
    again = build_task(json.loads(json.dumps(spec)))
    assert isinstance(again, MultiLabel) and again.spec() == spec
    assert again.decide(np.array([[0.4, 0.6]])).tolist() == ["cat"]


def test_table_and_captions(task: MultiLabel) -> None:
    columns, lines = task.describe(np.array([[0.6, 0.9], [0.1, 0.2]], np.float32), 5)
    assert columns["labels"].tolist() == ["cat dog", ""]
    assert columns["dog"].tolist() == pytest.approx([0.9, 0.2])
    assert lines == [["dog  90%", "cat  60%"], ["(none)"]]


def test_refused_settings_and_samples() -> None:
    with pytest.raises(
        ValueError, match=r"loss=CrossEntropyLoss .* BCEWithLogitsLoss, FocalBCELoss, Asym"
    ):
        MultiLabel(loss=nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="loss=AsymmetricLoss is for several labels"):
        SingleLabel(loss=AsymmetricLoss())
    for weights in ("log", [1, 0], [1, "much"]):
        with pytest.raises(ValueError, match=r"weights=.*; allowed: balanced, a list of numbe"):
            MultiLabel(weights=weights)
    for labels in (["cat"], ["cat", "cat"]):
        with pytest.raises(ValueError, match=r"labels=.*2 or more names, each once"):
            MultiLabel(labels)
    with pytest.raises(
        ValueError, match=r"labels=.* 'cow' is not a column of the samples; .* cat, dog"
    ):
        MultiLabel(["cat", "cow"]).fit(SAMPLES)
    with pytest.raises(UserError, match="2 or more label columns; the samples have cat"):
        MultiLabel().fit(SAMPLES.drop(columns="dog"))
    with pytest.raises(UserError, match=r"'price' holds '3' \(row 2 of the table\)"):
        MultiLabel().fit(SAMPLES.assign(price=[1, 3, 0, 1, 0]))
    for name in ("image", "index", "labels"):  # columns of submissions and predictions
        with pytest.raises(UserError, match=f"cannot be called '{name}'"):
            MultiLabel().fit(SAMPLES.rename(columns={"dog": name}))
    with pytest.raises(UserError, match="every training picture has the label 'pet'"):
        MultiLabel().fit(SAMPLES.assign(pet=1))
