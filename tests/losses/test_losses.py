"""Losses over classes and class weights against reference values; triplets by their effect."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs_in_process import train
from torch.nn import functional as F

from product_cls.losses.class_weights import class_weights, set_class_weights
from product_cls.losses.single_label import FocalLoss, SoftF1Loss, SumLoss, TripletLoss

COUNTS = [48, 48, 48, 48, 48, 12]
LOGITS = torch.tensor(
    [[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [0.0, 0.0, 3.0], [1.0, -1.0, 0.5]], dtype=torch.float64
)
TARGET = torch.tensor([0, 1, 2, 1])
WEIGHT = torch.tensor([0.5, 2.0, 0.7])


def test_focal() -> None:
    assert FocalLoss()(LOGITS, TARGET).item() == pytest.approx(0.5605906955, abs=1e-9)
    assert FocalLoss(gamma=0.0)(LOGITS, TARGET).item() == pytest.approx(0.8210236699, abs=1e-9)
    smoothed = FocalLoss(gamma=0.0, label_smoothing=0.1)(LOGITS, TARGET)
    assert smoothed.item() == pytest.approx(0.9043570033, abs=1e-9)
    assert F.cross_entropy(LOGITS, TARGET, label_smoothing=0.1).item() == pytest.approx(0.9043570)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_of_gamma_0_is_weighted_cross_entropy(smoothing: float) -> None:
    loss = FocalLoss(0.0, WEIGHT.tolist(), label_smoothing=smoothing)(LOGITS, TARGET)
    torchs = F.cross_entropy(LOGITS, TARGET, WEIGHT.double(), label_smoothing=smoothing)
    assert loss.item() == pytest.approx(torchs.item(), abs=1e-7)


def test_weighted_focal_is_the_weighted_mean() -> None:
    single = torch.stack([FocalLoss()(LOGITS[k : k + 1], TARGET[k : k + 1]) for k in range(4)])
    w = WEIGHT[TARGET]
    expected = ((single * w).sum() / w.sum()).item()
    assert FocalLoss(weight=WEIGHT)(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_finite_gradients_for_probabilities_of_1(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    FocalLoss(gamma)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_soft_f1() -> None:
    assert SoftF1Loss()(LOGITS, TARGET).item() == pytest.approx(0.378436607201, abs=1e-11)
    assert SoftF1Loss()(100 * F.one_hot(TARGET).double(), TARGET).item() == pytest.approx(
        0, abs=1e-6
    )


def test_soft_f1_ignores_classes_without_a_picture_in_the_batch() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = SoftF1Loss()(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(1 - (2 * (1 / 3) / (4 / 3)) / 3, abs=1e-6)
    assert logits.grad is not None and bool((logits.grad[:, 0] < 0).all())


def test_mixed_soft_f1_wants_the_larger_share_only() -> None:
    """The optimum that its docstring describes, compared with that of cross entropy."""
    torch.manual_seed(0)
    target = torch.arange(12) % 3
    other = (target + 1) % 3
    shares = {}
    for loss in (SoftF1Loss(), torch.nn.CrossEntropyLoss()):
        logits = torch.nn.Parameter(0.01 * torch.randn(12, 3))
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            (0.7 * loss(logits, target) + 0.3 * loss(logits, other)).backward()
            optimizer.step()
        p = logits.softmax(1).detach()
        shares[type(loss)] = p.gather(1, target[:, None]).mean().item()
    assert shares[SoftF1Loss] > 0.99
    assert shares[torch.nn.CrossEntropyLoss] == pytest.approx(0.7, abs=0.01)


def test_a_sum_of_losses() -> None:
    parts = {
        "cross_entropy": {"loss": torch.nn.CrossEntropyLoss(), "weight": 0.3},
        "soft_f1": {"loss": SoftF1Loss(), "weight": 2},
        "focal": None,
    }
    total = SumLoss(parts)(LOGITS, TARGET).item()
    assert total == pytest.approx(0.3 * 0.8210236699 + 2 * 0.3784366072, abs=1e-9)


def test_class_weights_reach_all_parts_that_take_them() -> None:
    focal, plain = FocalLoss(), torch.nn.CrossEntropyLoss()
    set_class_weights(focal, WEIGHT.numpy())
    assert focal(LOGITS, TARGET).item() == FocalLoss(weight=WEIGHT)(LOGITS, TARGET).item()
    assert "weight" in focal.state_dict()  # so that it moves with the module
    total = SumLoss(
        {
            "cross_entropy": {"loss": plain, "weight": 1.0},
            "soft_f1": {"loss": SoftF1Loss(), "weight": 1.0},
        }
    )
    set_class_weights(total, WEIGHT.numpy())
    assert plain.weight is not None and plain.weight.equal(WEIGHT)


def test_wrong_losses(refused) -> None:  # type: ignore[no-untyped-def]
    with refused("gamma=-1"):
        FocalLoss(gamma=-1)
    with refused("label_smoothing=1.5; allowed: 0 to 1"):
        FocalLoss(label_smoothing=1.5)
    with refused("weight=[1.0, -1.0]; allowed: 0 or more"):
        FocalLoss(weight=[1, -1])
    with refused("eps=0"):
        SoftF1Loss(eps=0)
    plain = torch.nn.CrossEntropyLoss()
    with refused("losses={a}; allowed: at least one loss with a weight above 0"):
        SumLoss({"a": {"loss": plain, "weight": 0}, "b": None})
    with refused("losses.a.weight=-1; allowed: 0 or more"):
        SumLoss({"a": {"loss": plain, "weight": -1}})
    with refused("losses.a={loss, wieght}; allowed: the two keys loss and weight"):
        SumLoss({"a": {"loss": plain, "wieght": 1}})
    with refused("SoftF1Loss takes no class weights"):
        set_class_weights(SoftF1Loss(), WEIGHT.numpy())
    over_embeddings = torch.nn.Identity()
    over_embeddings.on_embeddings = True  # type: ignore[assignment]
    with refused("losses.triplet.loss=Identity is over embeddings"):
        SumLoss({"triplet": {"loss": over_embeddings, "weight": 1}})


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=focal", "loss.weight=[1,2,1,1]", "mix.p=1"),
        ("loss=soft_f1",),
        ("loss=sum", "+loss@loss.losses.focal.loss=focal", "+loss.losses.focal.weight=0.2"),
        ("task=retrieval", "loss=focal", "task.embedding=8"),
        ("task=retrieval", "loss=sum", "loss.losses.soft_f1.weight=0.1", "task.embedding=8"),
    ],
)
def test_losses_by_config(tmp_path: Path, tiny_root: Path, overrides: tuple[str, ...]) -> None:
    run = train(tmp_path / "run", tiny_root, "trainer=debug", "trainer.accelerator=cpu", *overrides)
    assert run.status()["state"] == "done"


def test_wrong_smoothing_within_a_sum(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    smoothing = "loss.losses.cross_entropy.loss.label_smoothing=2"
    with pytest.raises(SystemExit):
        train(tmp_path / "run", tiny_root, "loss=sum", smoothing)
    assert f"{smoothing}; allowed: 0 to 1." in caplog.text


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
    with refused("kind=cube", "log, inverse, effective"):
        class_weights([1, 2], "cube")
    with refused("at least 1 training picture"):
        class_weights([1, 0])
    with refused("TripletMarginLoss takes no class weights"):
        set_class_weights(torch.nn.TripletMarginLoss(), np.ones(2, np.float32))
    with refused("the loss has its own weight already"):
        set_class_weights(torch.nn.CrossEntropyLoss(weight=torch.ones(2)), np.ones(2, np.float32))


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
    with refused("mining=soft", "hard, semihard, all"):
        TripletLoss(mining="soft")
    with refused("margin=0"):
        TripletLoss(margin=0)
