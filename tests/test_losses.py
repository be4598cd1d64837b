"""Weights of classes: the reference's values; triplets: what they pull together."""

import numpy as np
import pytest
import torch

from product_cls.losses import TripletLoss, class_weights, weigh

COUNTS = [48, 48, 48, 48, 48, 12]


def test_log_weights() -> None:
    weights = class_weights(COUNTS, "log")
    assert weights.tolist() == pytest.approx([0.9206254] * 5 + [1.3968730], abs=1e-6)


@pytest.mark.parametrize("kind", ["log", "inverse", "effective"])
def test_weights_sum_to_the_number_of_classes_and_favour_the_rare(kind: str) -> None:
    weights = class_weights(COUNTS, kind)
    assert weights.sum() == pytest.approx(6) and weights[5] > weights[0]
    assert class_weights([7, 7], kind).tolist() == [1.0, 1.0]


def test_inverse_weights_are_in_the_ratio_of_the_counts() -> None:
    weights = class_weights([10, 40], "inverse")
    assert weights[0] / weights[1] == pytest.approx(4)


def test_wrong_weights(refused) -> None:  # type: ignore[no-untyped-def]
    with refused("class_weights=cube", "log, inverse, effective"):
        class_weights([1, 2], "cube")
    with refused("at least 1 training picture"):
        class_weights([1, 0])
    with refused("TripletMarginLoss takes no weights"):
        weigh(torch.nn.TripletMarginLoss(), np.ones(2, np.float32))
    with refused("Both loss.weight and task.class_weights"):
        weigh(torch.nn.CrossEntropyLoss(weight=torch.ones(2)), np.ones(2, np.float32))


def test_triplets() -> None:
    pytest.importorskip("pytorch_metric_learning")
    target = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert TripletLoss()(apart, target).item() == 0.0
    mixed = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0]], requires_grad=True)
    loss = TripletLoss()(mixed, target)
    loss.backward()
    assert loss.item() > 0.2 and mixed.grad is not None and mixed.grad.abs().sum() > 0


def test_wrong_triplets(refused) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("pytorch_metric_learning")
    with refused("loss.mining=soft", "hard, semihard, all"):
        TripletLoss(mining="soft")
    with refused("loss.margin=0"):
        TripletLoss(margin=0)
