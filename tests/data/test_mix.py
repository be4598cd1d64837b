"""mixup and cutmix, against the numbers of their reference implementations."""

import numpy as np
import pytest
import torch
from conftest import Refused
from torch.nn.functional import cross_entropy, one_hot

from product_cls.data.mix import Mix, cutmix, cutmix_box, mixup


def batch(count: int = 8, height: int = 12, width: int = 16) -> torch.Tensor:
    """Picture n has the value n everywhere."""
    return torch.arange(float(count))[:, None, None, None].expand(count, 3, height, width).clone()


@pytest.mark.parametrize(
    ("lam", "cx", "cy", "box", "kept"),
    [  # box: x0, y0, x1, y1, as the reference implementation gives it
        (0.5, 112, 112, (33, 33, 191, 191), 0.5024713010204082),
        (0.5, 0, 0, (0, 0, 79, 79), 0.875617825255102),
        (0.75, 223, 100, (167, 44, 224, 156), 0.8727678571428572),
        (0.999999, 5, 5, (5, 5, 5, 5), 1.0),
        (0.0, 112, 112, (0, 0, 224, 224), 0.0),
        (1.0, 0, 223, (0, 223, 0, 223), 1.0),
    ],
)
def test_cutmix_golden(
    lam: float, cx: int, cy: int, box: tuple[int, int, int, int], kept: float
) -> None:
    y0, y1, x0, x1 = cutmix_box(224, 224, lam, cy, cx)
    assert (x0, y0, x1, y1) == box
    mixed = cutmix(batch(2, 224, 224), torch.tensor([1, 0]), lam, cy, cx)
    assert mixed.lam == pytest.approx(kept, abs=1e-12)
    # Lambda is the share of the pixels that stayed, after clipping.
    assert (mixed.images[0] == 0).double().mean().item() == pytest.approx(kept, abs=1e-7)


def test_cutmix_box_in_a_rectangular_image() -> None:
    # sqrt(1 - .75) = .5: a patch of 50 rows and 100 columns.
    assert cutmix_box(100, 200, 0.75, 50, 100) == (25, 75, 50, 150)
    assert cutmix_box(100, 200, 0.75, 99, 0) == (74, 100, 0, 50)


def test_cutmix_pastes_the_partners_pixels() -> None:
    images = torch.rand(5, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    perm = torch.tensor([2, 0, 1, 4, 3])
    y0, y1, x0, x1 = cutmix_box(20, 30, 0.6, 4, 25)
    mixed = cutmix(images, perm, 0.6, 4, 25)
    inside = torch.zeros(20, 30, dtype=torch.bool)
    inside[y0:y1, x0:x1] = True
    assert 0 < inside.sum() < 600
    assert torch.equal(mixed.images[..., inside], images[perm][..., inside])
    assert torch.equal(mixed.images[..., ~inside], images[..., ~inside])
    assert mixed.lam == pytest.approx(1 - inside.double().mean().item())


def test_expected_lambda_of_cutmix() -> None:
    """Clipping at the border keeps more of the first image: .683 for Beta(1, 1), not .5."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(20_000):
        lam, cy, cx = rng.beta(1, 1), int(rng.integers(224)), int(rng.integers(224))
        y0, y1, x0, x1 = cutmix_box(224, 224, lam, cy, cx)
        kept.append(1 - (y1 - y0) * (x1 - x0) / 224**2)
    assert np.mean(kept) == pytest.approx(0.6828, abs=0.006)  # 3 standard errors
    # A meta tensor: 3000 copies of real images would take half a minute on a busy machine.
    mix, images = Mix(mixup=0.0, cutmix=1.0), torch.empty(2, 1, 224, 224, device="meta")
    drawn = [mix(images, rng).lam for _ in range(3000)]
    assert np.mean(drawn) == pytest.approx(0.6828, abs=0.016)


def test_mixup_formula() -> None:
    images = torch.rand(4, 3, 6, 5, dtype=torch.float64)
    perm = torch.tensor([3, 0, 1, 2])
    mixed = mixup(images, perm, 0.3)
    assert torch.allclose(mixed.images, 0.3 * images + 0.7 * images[perm], atol=1e-15)
    assert mixed.lam == 0.3 and torch.equal(mixed.perm, perm)
    assert torch.equal(mixup(images, perm, 1.0).images, images)


def test_loss_of_a_mix_is_the_loss_of_mixed_targets() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 3, 1, 0])
    _, perm, lam = Mix(mixup=1.0, cutmix=0.0)(batch(6), np.random.default_rng(1))
    assert 0 < lam < 1
    form = lam * cross_entropy(logits, target) + (1 - lam) * cross_entropy(logits, target[perm])
    hot = one_hot(target, 4).double()
    assert form.item() == pytest.approx(
        cross_entropy(logits, lam * hot + (1 - lam) * hot[perm]).item(), abs=1e-12
    )


def kind(images: torch.Tensor, mixed: torch.Tensor) -> str:
    """``mixup`` if values appear that no image of ``batch`` has."""
    if torch.equal(images, mixed):
        return "none"
    return "cutmix" if set(mixed.unique().tolist()) <= set(images.unique().tolist()) else "mixup"


def test_each_mixed_batch_uses_mixup_or_cutmix() -> None:
    images, rng = batch(), np.random.default_rng(0)
    mix = Mix(p=0.5)
    kinds = [kind(images, mix(images, rng).images) for _ in range(600)]
    assert kinds.count("none") == pytest.approx(300, abs=60)
    assert kinds.count("mixup") == pytest.approx(150, abs=50)
    assert kinds.count("cutmix") == pytest.approx(150, abs=50)
    only = [kind(images, Mix(cutmix=0.0)(images, rng).images) for _ in range(50)]
    assert "cutmix" not in only and only.count("mixup") > 45
    only = [kind(images, Mix(mixup=0.0)(images, rng).images) for _ in range(50)]
    assert "mixup" not in only and only.count("cutmix") > 35


@pytest.mark.parametrize("mix", [Mix(p=0.0), Mix(mixup=0.0, cutmix=0.0)])
def test_no_mixing(mix: Mix) -> None:
    images = batch()
    for seed in range(20):
        mixed = mix(images, np.random.default_rng(seed))
        assert torch.equal(mixed.images, images) and mixed.lam == 1.0
        assert mixed.perm.tolist() == list(range(8))


def test_batch_of_one_is_not_mixed() -> None:
    mixed = Mix()(batch(1), np.random.default_rng(0))
    assert mixed.lam == 1.0 and mixed.perm.tolist() == [0]
    assert torch.equal(mixed.images, batch(1))


def test_input_is_not_modified() -> None:
    images = batch()
    for seed in range(20):
        Mix()(images, np.random.default_rng(seed))
    assert torch.equal(images, batch())


def test_same_generator_same_draw() -> None:
    images = torch.rand(8, 3, 12, 16)
    drawn = [Mix()(images, np.random.default_rng(seed)) for seed in range(20)]
    for seed, first in enumerate(drawn):
        again = Mix()(images, np.random.default_rng(seed))
        assert torch.equal(first.images, again.images)
        assert torch.equal(first.perm, again.perm) and first.lam == again.lam
    assert len({mixed.lam for mixed in drawn}) > 15


def test_alpha_shapes_lambda() -> None:
    rng, images = np.random.default_rng(0), batch(2, 2, 2)
    for alpha in (0.2, 1.0, 8.0):
        lams = [Mix(mixup=alpha, cutmix=0.0)(images, rng).lam for _ in range(2000)]
        # Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
        assert np.mean(lams) == pytest.approx(0.5, abs=0.04)
        assert np.var(lams) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_memory_format_and_dtype_are_kept() -> None:
    images = batch().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    for mix in (Mix(cutmix=0.0), Mix(mixup=0.0)):
        mixed = mix(images, np.random.default_rng(0)).images
        assert mixed.dtype == torch.bfloat16
        assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"mixup": -1.0}, "mixup=-1.0"),
        ({"cutmix": -0.1}, "cutmix=-0.1"),
        ({"mixup": float("nan")}, "mixup=nan"),
        ({"cutmix": float("inf")}, "cutmix=inf"),
        ({"p": 1.5}, "p=1.5"),
        ({"p": -0.5}, "p=-0.5"),
    ],
)
def test_bad_arguments(refused: Refused, arguments: dict[str, float], argument: str) -> None:
    with refused(f"{argument}; allowed: 0"):
        Mix(**arguments)


@pytest.mark.parametrize("left_out", ["mixup", "cutmix"])
def test_a_method_mixes_the_same_without_the_other(left_out: str) -> None:
    """So that rows of an ablation differ by the method alone."""
    both, one = Mix(p=0.5), Mix(p=0.5, **{left_out: 0.0})
    images, seen = batch(), set()
    for seed in range(40):
        first, second = (mix(images, np.random.default_rng(seed)) for mix in (both, one))
        name = kind(images, first.images)
        seen.add(name)
        assert first.perm.equal(second.perm)
        empty_patch = name == "none" and not first.perm.equal(torch.arange(len(images)))
        if name != left_out and not empty_patch:
            assert first.images.equal(second.images) and first.lam == second.lam
    assert len(seen) == 3
