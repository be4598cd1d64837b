"""Losses over several labels against torch and torchvision, and with mixed targets."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from product_cls.data.mix import Mix
from product_cls.losses.multi_label import (
    AsymmetricLoss,
    FocalBCELoss,
    balanced_weights,
    set_present_weights,
    takes_one_label,
    takes_several_labels,
)
from product_cls.losses.single_label import FocalLoss, SumLoss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, -1.5, 3.0]], dtype=torch.float64)
TARGET = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)


def test_gamma_0_is_binary_cross_entropy() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGET).item()
    by_hand = [math.log1p(math.exp(x)) for x in (-2.0, 0.0, -1.0, 0.5, 1.5, -3.0)]
    assert expected == pytest.approx(sum(by_hand) / 6)
    assert FocalBCELoss(gamma=0.0)(LOGITS, TARGET).item() == pytest.approx(expected)
    plain = AsymmetricLoss(gamma_pos=0.0, gamma_neg=0.0, clip=0.0)
    assert plain(LOGITS, TARGET).item() == pytest.approx(expected)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.5, 0.7)])
def test_focal_equals_torchvision(gamma: float, alpha: float | None) -> None:
    expected = sigmoid_focal_loss(LOGITS, TARGET, -1 if alpha is None else alpha, gamma, "mean")
    assert FocalBCELoss(gamma, alpha)(LOGITS, TARGET).item() == pytest.approx(expected.item())


def test_asymmetric_by_hand() -> None:
    """Present labels -(1 - p)^1 log p; absent ones -p_m^4 log(1 - p_m), p_m = max(p - .05, 0)."""
    values = []
    for x, there in zip(LOGITS.flatten().tolist(), TARGET.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        shifted = max(p - 0.05, 0)
        values.append(-(1 - p) * math.log(p) if there else -(shifted**4) * math.log(1 - shifted))
    assert AsymmetricLoss()(LOGITS, TARGET).item() == pytest.approx(np.mean(values))
    # An absent label with a probability below clip does not count.
    assert AsymmetricLoss()(torch.tensor([[-4.0]]), torch.tensor([[0.0]])).item() == 0


@pytest.mark.parametrize("loss", [FocalBCELoss(0.5), AsymmetricLoss(0.5, 0.5), AsymmetricLoss()])
def test_gradients_are_finite_for_probabilities_of_0_and_1(loss: nn.Module) -> None:
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss(logits, torch.tensor([[1.0, 0.0, 0.0, 1.0]])).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_balanced_weights_are_absent_by_present() -> None:
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 0], [0, 0]])
    assert balanced_weights(targets).tolist() == [1.5, 4.0]
    for loss in (nn.BCEWithLogitsLoss(), FocalBCELoss(gamma=0.0), AsymmetricLoss(0, 0, 0)):
        set_present_weights(loss, balanced_weights(targets))
        logits, target = LOGITS[:, :2], TARGET[:, :2]
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weights = torch.where(target > 0, torch.tensor([1.5, 4.0]), 1.0)
        assert loss(logits, target).item() == pytest.approx((each * weights).mean().item())


def test_mixed_loss_equals_that_of_mixed_targets() -> None:
    """Binary cross entropy is linear in the target, so lam * a + (1 - lam) * b is the loss of the
    shares of both pictures' labels."""
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.5, 4.0, 0.5], dtype=torch.float64))
    mixed = Mix(p=1.0)(torch.zeros(2, 3, 8, 8), np.random.default_rng(0))
    both = mixed.lam * loss(LOGITS, TARGET) + (1 - mixed.lam) * loss(LOGITS, TARGET[mixed.perm])
    shares = mixed.lam * TARGET + (1 - mixed.lam) * TARGET[mixed.perm]
    assert 0 < mixed.lam < 1
    assert both.item() == pytest.approx(loss(LOGITS, shares).item())


def test_which_losses_take_several_labels() -> None:
    bce, focal = nn.BCEWithLogitsLoss(), FocalBCELoss()
    both = {"bce": {"loss": bce, "weight": 1}, "focal": {"loss": focal, "weight": 1}}
    assert all(map(takes_several_labels, (bce, focal, AsymmetricLoss(), SumLoss(both))))
    mixed = {"bce": {"loss": bce, "weight": 1}, "ce": {"loss": nn.CrossEntropyLoss(), "weight": 1}}
    for loss in (nn.CrossEntropyLoss(), FocalLoss(), SumLoss(mixed)):
        assert not takes_several_labels(loss)
        assert takes_one_label(loss) is not isinstance(loss, SumLoss)
    assert not any(map(takes_one_label, (bce, focal, AsymmetricLoss())))


def test_wrong_values() -> None:
    for make, words in (
        (lambda: FocalBCELoss(-1), "gamma=-1"),
        (lambda: FocalBCELoss(2, 2), "alpha=2; allowed: 0 to 1, or null"),
        (lambda: AsymmetricLoss(gamma_neg=-1), "gamma_neg=-1"),
        (lambda: AsymmetricLoss(clip=1), "clip=1"),
        (
            lambda: set_present_weights(nn.CrossEntropyLoss(), np.ones(2)),
            "takes no weights of labels",
        ),
        (
            lambda: set_present_weights(nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), np.ones(2)),
            "the loss has its own pos_weight already",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make()
