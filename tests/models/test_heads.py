"""ArcFace against a reference implementation and pytorch-metric-learning; linear heads."""

import math

import pytest
import torch
from torch.nn import functional as F

from product_cls.models.heads import (
    MOST_LOG_VARIANCE,
    ArcMargin,
    EmbeddingHead,
    MultiHeadLinear,
    add_margin,
)

COSINE = torch.tensor([[0.9, 0.1, -0.5], [0.2, -0.95, 0.3], [-0.3, 0.0, 0.99]])
TARGET = torch.tensor([0, 1, 2])


def head_with_cosines(cosine: torch.Tensor, **arguments: object) -> tuple[ArcMargin, torch.Tensor]:
    """A head and embeddings, one per row, that have exactly these cosines."""
    rows, classes = cosine.shape
    arc = ArcMargin(classes + rows, classes, **arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        arc.weight.copy_(torch.eye(classes, classes + rows))
    rest = (1 - cosine.square().sum(dim=1)).clamp(min=0).sqrt()
    return arc, torch.cat([cosine, torch.diag(rest)], dim=1)


def test_arcface_values() -> None:
    cosine = torch.tensor([[0.9, 0.1, -0.3], [0.2, -0.95, 0.2], [-0.1, 0.0, 0.99]])
    logits = ArcMargin(4, 3).logits(COSINE, TARGET)
    assert logits.diagonal().tolist() == pytest.approx([29.664510, -49.759530, 38.561229], abs=1e-4)
    assert logits[0, 1].item() == pytest.approx(4.5) and logits[0, 2].item() == -22.5
    assert F.cross_entropy(logits, TARGET).item() == pytest.approx(21.0901926, abs=1e-4)
    easy = ArcMargin(4, 3, easy_margin=True).logits(COSINE, TARGET)
    assert easy.diagonal().tolist() == pytest.approx([29.664510, -42.75, 38.561229], abs=1e-4)
    # The same from embeddings; without a target there is no margin.
    arc, embedding = head_with_cosines(cosine)
    assert torch.allclose(arc(7.0 * embedding), 45.0 * cosine, atol=1e-4)
    expected = ArcMargin(4, 3).logits(cosine, TARGET)
    assert torch.allclose(arc(embedding, TARGET), expected, atol=1e-3)


def test_margin_may_differ_between_classes_and_be_scheduled() -> None:
    arc = ArcMargin(4, 3, margin=[0.1, 0.4, 0.0])
    logits = arc.logits(COSINE, TARGET) / 45.0
    assert logits[0, 0].item() == pytest.approx(math.cos(math.acos(0.9) + 0.1), abs=1e-6)
    assert logits[2, 2].item() == pytest.approx(0.99, abs=1e-6)
    arc.strength = 0.5
    half = arc.logits(COSINE, TARGET) / 45.0
    assert half[0, 0].item() == pytest.approx(math.cos(math.acos(0.9) + 0.05), abs=1e-6)
    arc.strength = 0.0
    assert torch.allclose(arc.logits(COSINE, TARGET), 45.0 * COSINE)


@pytest.mark.parametrize("value", [-1.0, -0.99999994, 0.0, 0.99999994, 1.0])
@pytest.mark.parametrize("easy", [False, True])
def test_gradients_are_finite_everywhere(value: float, easy: bool) -> None:
    cosine = torch.tensor([[value, 0.2]], requires_grad=True)
    out = add_margin(cosine, torch.tensor([0]), torch.tensor([0.4]), easy=easy)
    out.sum().backward()
    assert cosine.grad is not None and torch.isfinite(cosine.grad).all()
    angle = math.acos(value)
    if value > math.cos(math.pi - 0.4) and not easy:
        assert out[0, 0].item() == pytest.approx(math.cos(angle + 0.4), abs=2e-4)


def test_embedding_on_a_class_direction_has_finite_gradients() -> None:
    arc = ArcMargin(3, 3)
    for sign in (1.0, -1.0):
        embedding = (sign * arc.weight.detach()).clone().requires_grad_()
        arc(embedding, TARGET).sum().backward()
        assert embedding.grad is not None and torch.isfinite(embedding.grad).all()
        assert arc.weight.grad is not None and torch.isfinite(arc.weight.grad).all()


def test_logits_fall_with_the_angle_and_the_margin_never_helps() -> None:
    cosine = torch.linspace(1, -1, 201)[:, None]
    turned = add_margin(cosine, torch.zeros(201, dtype=torch.long), torch.full((201,), 0.4))
    assert (turned.diff(dim=0) < 0).all()
    assert (turned <= cosine + 1e-6).all()


def test_agrees_with_pytorch_metric_learning() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    torch.manual_seed(0)
    reference = losses.ArcFaceLoss(10, 32, margin=math.degrees(0.4), scale=45).double()
    arc = ArcMargin(32, 10)
    with torch.no_grad():
        reference.W.copy_(arc.weight.t())
    embedding, target = torch.randn(64, 32), torch.randint(10, (64,))
    loss = F.cross_entropy(arc(embedding, target).double(), target)
    assert loss.item() == pytest.approx(reference(embedding.double(), target).item(), rel=1e-6)


def test_float32_under_autocast() -> None:
    arc = ArcMargin(8, 3)
    embedding = torch.randn(4, 8)
    plain = arc(embedding, torch.tensor([0, 1, 2, 0]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = arc(embedding, torch.tensor([0, 1, 2, 0]))
    assert cast.dtype == torch.float32 and torch.equal(plain, cast)


def test_the_nearest_subcenter_counts() -> None:
    arc = ArcMargin(4, 2, subcenters=2)
    with torch.no_grad():
        arc.weight.copy_(torch.eye(4))  # class 0: axes 0 and 1; class 1: axes 2 and 3
    cosine = arc.cosine(torch.tensor([[0.0, 2.0, 0.0, 0.0], [0.6, 0.0, 0.0, 0.8]]))
    assert torch.allclose(cosine, torch.tensor([[1.0, 0.0], [0.6, 0.8]]))


def test_detached_head_leaves_the_embedding_alone() -> None:
    for detached in (False, True):
        torch.manual_seed(0)
        head = EmbeddingHead(6, 4, ArcMargin(4, 3), detached=detached)
        out = head(torch.randn(5, 6))
        assert out.embedding.shape == (5, 4) and out.cosine.shape == (5, 3)
        out.cosine.sum().backward()
        assert (head.neck[0].weight.grad is None) is detached
        assert head.arc.weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"margin": 2.0}, "margin=2.0"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": [0.1, 0.2]}, "2 values for 3 classes"),
        ({"scale": 0.0}, "scale=0.0"),
        ({"subcenters": 0}, "subcenters=0"),
    ],
)
def test_wrong_values(arguments: dict[str, object], words: str, refused) -> None:  # type: ignore[no-untyped-def]
    with refused(words):
        ArcMargin(4, 3, **arguments)  # type: ignore[arg-type]


def test_learned_variances_are_bounded_and_keep_a_gradient() -> None:
    head = MultiHeadLinear(4, [3, 2], uncertain=True)
    assert head(torch.zeros(5, 4)).shape == (5, 5)
    assert head.raw is not None and head.log_variance.tolist() == [0, 0]
    with torch.no_grad():
        head.raw.copy_(torch.tensor([0.1, -8.0]))
    variance = head.log_variance
    assert variance[0].item() == pytest.approx(0.1, abs=1e-4)  # close to the identity near 0
    assert -MOST_LOG_VARIANCE < variance[1].item() < -0.9 * MOST_LOG_VARIANCE
    variance.sum().backward()
    assert head.raw.grad is not None and head.raw.grad[1] > 0.01
    assert MultiHeadLinear(4, [3, 2]).raw is None
