import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused

from product_cls.core.errors import UserError
from product_cls.losses.single_label import FocalLoss, SoftF1Loss, SumLoss, TripletLoss
from product_cls.tasks import build_task
from product_cls.tasks.multi_head import MultiHead
from product_cls.tasks.multi_label import MultiLabel
from product_cls.tasks.single_label import SingleLabel

SAMPLES = pd.DataFrame(
    {
        "id": list("abcdef"),
        "split": ["train", "train", "train", "test", "test", "test"],
        "label": ["10", "2", "a", "2", None, "unseen"],
    }
)


@pytest.fixture
def task() -> SingleLabel:
    fitted = SingleLabel()
    fitted.fit(SAMPLES)
    return fitted


def test_classes_in_natural_order(task: SingleLabel) -> None:
    assert task.classes == ["2", "10", "a"]


def test_names_in_another_unicode_form() -> None:
    """As in a config typed on macOS, and in checkpoints of older versions."""
    samples = SAMPLES.assign(café=["é", "é", "a", "é", None, "a"])
    fitted = SingleLabel("café")
    fitted.fit(samples)
    assert fitted.classes == ["a", "é"]
    assert SingleLabel(classes=["a", "é"]).classes == fitted.classes
    head = MultiHead({"x": {"column": "café", "classes": ["é", "a"]}})
    head.fit(samples)
    assert head.heads[0].classes == ["é", "a"]
    assert MultiLabel(["é", "a"]).classes == ["é", "a"]


def test_unlabelled_pictures_are_not_counted_and_unseen_products_are_wrong(
    task: SingleLabel,
) -> None:
    target = task.encode(SAMPLES)
    assert target[:5].tolist() == [1, 0, 2, 0, -1]
    assert target[5] < -1
    scores = np.eye(3, dtype=np.float32)[[1, 0, 2, 0, 0, 0]]
    # Four are right; the fifth has no label; the sixth has one without a score.
    assert task.evaluate(scores, target) == {"accuracy": pytest.approx(4 / 5)}
    assert task.evaluate(scores[4:5], target[4:5]) == {}


def test_accuracy_counts_pictures_not_classes(task: SingleLabel) -> None:
    metrics = task.metrics()
    outputs = torch.eye(3)[[0, 0, 0, 1]]
    metrics.update(outputs, torch.tensor([0, 0, 0, 2]))
    assert metrics.compute()["accuracy"].item() == pytest.approx(0.75)


def test_scores_are_probabilities_and_decided_by_name(task: SingleLabel) -> None:
    scores = task.scores(torch.tensor([[1.0, 3.0, 2.0]]).bfloat16())
    assert scores.dtype == torch.float32
    assert scores.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert task.decide(scores.numpy()).tolist() == ["10"]


def test_label_smoothing_as_torch_defines_it() -> None:
    logits = torch.tensor([[2.0, 0, -1], [0.5, 1.5, 0], [0, 0, 3], [1, -1, 0.5]])
    target = torch.tensor([0, 1, 2, 1])
    smooth = SingleLabel(loss=torch.nn.CrossEntropyLoss(label_smoothing=0.1))
    assert smooth.loss(logits, target).item() == pytest.approx(0.9043570, abs=1e-6)
    assert SingleLabel().loss(logits, target).item() == pytest.approx(0.8210237, abs=1e-6)


def test_spec_rebuilds_the_task(task: SingleLabel) -> None:
    again = build_task(task.spec())
    assert isinstance(again, SingleLabel)
    assert (again.classes, again.label) == (task.classes, task.label)
    with pytest.raises(
        UserError,
        match=r"task 'os' is unknown; known: .*multi_head, multi_label, .*retrieval, single_label",
    ):
        build_task({"name": "os"})


def test_an_imported_task_is_rebuilt_and_an_unknown_one_must_be_imported() -> None:
    with pytest.raises(UserError, match=r"'own_task' is unknown; .* own, import its module first"):
        build_task({"name": "own_task"})

    class Own(SingleLabel):
        name = "own_task"

    assert type(build_task(Own(classes=["a", "b"]).spec())) is Own
    with pytest.raises(TypeError, match=r"'retrieval' is taken by a task of product_cls\.tasks"):
        type("Other", (SingleLabel,), {"name": "retrieval"})


def test_missing_label_column(task: SingleLabel) -> None:
    with pytest.raises(ValueError, match=r"label=brand is not a column .* id, split, label"):
        SingleLabel(label="brand").fit(SAMPLES)


def test_labels_that_cannot_be_learned(refused: Refused) -> None:
    samples = pd.DataFrame({"id": ["x", "y", "z"], "split": "train", "brand": ["A", None, "B"]})
    with refused("label=brand: 1 training pictures", "the first is 'y'", "multi_head"):
        SingleLabel("brand").fit(samples)
    with refused("label=brand has only one class, A"):
        SingleLabel("brand").fit(samples[:1])


def test_class_weights_count_in_the_loss() -> None:
    samples = pd.DataFrame({"label": list("aaaaaaab"), "split": "train"})
    logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    plain, weighted = SingleLabel(), SingleLabel(weights="inverse")
    for task in (plain, weighted):
        task.fit(samples)
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    assert plain.loss(logits, target).item() == pytest.approx(each.mean().item())
    expected = (each * torch.tensor([1.0, 7.0])).sum() / 8
    assert weighted.loss(logits, target).item() == pytest.approx(expected.item(), abs=1e-6)


def test_losses_that_do_not_fit_the_classes(refused: Refused) -> None:
    three = FocalLoss(weight=[1.0, 2.0, 3.0])
    samples = pd.DataFrame({"label": list("ab"), "split": "train"})
    total = SumLoss({"focal": {"loss": three, "weight": 1}})
    for loss, argument in ((three, "loss.weight="), (total, "loss.losses.focal.loss.weight=")):
        with refused(argument, "has 3 weights for 2 classes"):
            SingleLabel(loss=loss).fit(samples)
    parts = (torch.nn.CrossEntropyLoss(), torch.nn.BCEWithLogitsLoss())
    mixed = SumLoss({str(k): {"loss": part, "weight": 1} for k, part in enumerate(parts)})
    with refused("loss=SumLoss is for several labels", "the multi_label task"):
        SingleLabel(loss=mixed)
    with refused("weights=cube; allowed: log, inverse, effective"):
        SingleLabel(weights="cube").fit(samples)
    with refused("weights=log: SoftF1Loss takes no class weights"):
        SingleLabel(loss=SoftF1Loss(), weights="log").fit(samples)
    with refused("weights=log: the loss has its own weight already"):
        SingleLabel(loss=FocalLoss(weight=[1.0, 2.0]), weights="log").fit(samples)


def test_a_loss_over_embeddings_is_refused() -> None:
    pytest.importorskip("pytorch_metric_learning")
    with pytest.raises(ValueError, match=r"loss=TripletLoss .* the retrieval task"):
        SingleLabel(loss=TripletLoss())
