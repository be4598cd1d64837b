"""The loss of pictures that a teacher names."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from product_cls.losses.distill import Distill, soft_losses, taught_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [0.0, 0.0, 3.0]], requires_grad=True)
TARGET = torch.tensor([0, -1, 2])
ANSWER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 0.0]])
WEIGHT = torch.tensor([0.5, 0.8, 0.0])


def test_labels_and_answers_are_learned_side_by_side() -> None:
    loss = taught_loss(nn.CrossEntropyLoss(), LOGITS, TARGET, ANSWER, WEIGHT)
    by_label = F.cross_entropy(LOGITS[[0, 2]], TARGET[[0, 2]], reduction="sum")
    by_answer = 0.8 * F.kl_div(F.log_softmax(LOGITS[1], 0), ANSWER[1], reduction="sum")
    assert loss.item() == pytest.approx(((by_label + by_answer) / 3).item(), abs=1e-6)


def test_distill_shares_labelled_pictures_between_both() -> None:
    loss = taught_loss(Distill(share=0.25, temperature=2.0), LOGITS, TARGET, ANSWER, WEIGHT)
    soft = soft_losses(LOGITS, ANSWER, 2.0)
    hard = F.cross_entropy(LOGITS[[0, 2]], TARGET[[0, 2]], reduction="none")
    expected = 0.75 * hard[0] + hard[1] + 0.25 * 0.5 * soft[0] + 0.8 * soft[1]
    assert loss.item() == pytest.approx((expected / 3).item(), abs=1e-6)


def test_soft_losses_are_the_divergence_at_a_temperature() -> None:
    student = F.softmax(LOGITS[:2] / 3.0, dim=1)
    teacher = F.softmax(ANSWER[:2].log() / 3.0, dim=1)
    expected = 9.0 * (teacher * (teacher / student).log()).sum(dim=1)
    assert torch.allclose(soft_losses(LOGITS[:2], ANSWER[:2], 3.0), expected, atol=1e-6)
    gradient = torch.autograd.grad(soft_losses(LOGITS[:2], ANSWER[:2]).sum(), LOGITS)[0]
    assert torch.allclose(gradient[:2], F.softmax(LOGITS[:2], dim=1) - ANSWER[:2], atol=1e-6)


def test_a_batch_without_label_and_answer_has_a_loss_of_0() -> None:
    none = torch.full_like(TARGET, -1)
    loss = taught_loss(nn.CrossEntropyLoss(), LOGITS, none, ANSWER, torch.zeros(3))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"share": 1.5}, "share=1.5; allowed: 0 to 1"),
        ({"temperature": 0.0}, "temperature=0.0; allowed: above 0"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Distill(**arguments)  # type: ignore[arg-type]
