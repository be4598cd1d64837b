"""Values of GeM are the reference implementation's on x = -4..7."""

import pytest
import torch

from product_cls.models.pooling import AveragePool, GeM, build_pooling

X = torch.arange(-4.0, 8.0).reshape(1, 1, 3, 4)


@pytest.mark.parametrize(("p", "expected"), [(1, 2.3333337), (3, 4.0275869), (6.5, 5.0887132)])
def test_gem_values(p: float, expected: float) -> None:
    assert GeM(p=p)(X).item() == pytest.approx(expected, abs=1e-5)


def test_gem_lies_between_mean_and_maximum() -> None:
    x = torch.rand(2, 5, 4, 4)
    pooled = GeM(p=3)(x)
    assert pooled.shape == (2, 5)
    assert (pooled >= AveragePool()(x)).all()
    assert (pooled <= x.amax((-2, -1))).all()


def test_gem_learns_p_if_trainable() -> None:
    for trainable in (True, False):
        pool = GeM(trainable=trainable)
        assert pool.p.requires_grad is trainable
    GeM()(X).sum().backward()


def test_gem_neither_underflows_nor_overflows_under_autocast() -> None:
    features = torch.tensor([1e-3, 2000.0]).reshape(1, 2, 1, 1).half()
    with torch.autocast("cpu", torch.bfloat16):
        pooled = GeM()(features)
    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, features.float().flatten(1), rtol=1e-3)


def test_refused_values() -> None:
    with pytest.raises(ValueError, match="pooling=max; allowed: avg, gem"):
        build_pooling("max")
    with pytest.raises(ValueError, match="p=0"):
        GeM(p=0)
