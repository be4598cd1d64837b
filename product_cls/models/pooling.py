"""Pools a feature map to a vector."""

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised mean, ``mean(clamp(x, eps)^p)^(1/p)`` (Radenovic et al. 2018, arXiv 1711.02512).

    ``p = 1`` is the average; a large ``p`` approaches the maximum. Computed in float32, also
    under autocast: in half precision ``eps^3`` is 0 and large features overflow.

    Args:
        p: the exponent, above 0.
        eps: lower bound to which features are clamped.
        trainable: whether to learn ``p``.

    Raises:
        ValueError: p of 0 or less.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, trainable: bool = True) -> None:
        super().__init__()
        if p <= 0:
            raise ValueError(f"p={p}; allowed: above 0.")
        self.p = nn.Parameter(torch.tensor(float(p)), requires_grad=trainable)
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Features float ``[B, C, H, W]`` -> float32 ``[B, C]``."""
        with torch.autocast(features.device.type, enabled=False):
            powered = features.float().clamp(min=self.eps).pow(self.p)
            return powered.mean(dim=(-2, -1)).pow(1.0 / self.p)


class AveragePool(nn.Module):
    """Mean over all positions."""

    def forward(self, features: Tensor) -> Tensor:
        """Features float ``[B, C, H, W]`` -> ``[B, C]`` of the same dtype."""
        return features.mean(dim=(-2, -1))


POOLINGS: dict[str, type[nn.Module]] = {"avg": AveragePool, "gem": GeM}


def build_pooling(pooling: str) -> nn.Module:
    """A pooling layer by name.

    Raises:
        ValueError: an unknown name.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling}; allowed: {', '.join(POOLINGS)}.")
    return POOLINGS[pooling]()
