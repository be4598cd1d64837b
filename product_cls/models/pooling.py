"""Pooling of a feature map to a vector."""

import torch
from torch import Tensor, nn

from product_cls.core.errors import UserError


class GeM(nn.Module):
    """Generalised mean, ``mean(clamp(x, eps)^p)^(1/p)`` (Radenovic et al. 2018, arXiv 1711.02512).

    ``p = 1`` is the average, a large ``p`` comes close to the maximum. In float32 under autocast:
    in half precision ``eps^3`` is 0 and large features overflow.

    Args:
        p: the exponent, above 0.
        eps: features are raised to at least this.
        trainable: learn ``p``.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, trainable: bool = True) -> None:
        super().__init__()
        if p <= 0:
            raise UserError(f"GeM p={p}; it must be above 0.")
        self.p = nn.Parameter(torch.tensor(float(p)), requires_grad=trainable)
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, C]``."""
        with torch.autocast(features.device.type, enabled=False):
            powered = features.float().clamp(min=self.eps).pow(self.p)
            return powered.mean(dim=(-2, -1)).pow(1.0 / self.p)


class AveragePool(nn.Module):
    """Mean over the picture, ``[B, C, H, W]`` -> ``[B, C]``."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(-2, -1))


POOLINGS: dict[str, type[nn.Module]] = {"avg": AveragePool, "gem": GeM}


def build_pooling(name: str) -> nn.Module:
    """A pooling by name.

    Raises:
        UserError: an unknown name.
    """
    if name not in POOLINGS:
        raise UserError(f"model.pooling '{name}' is unknown; allowed: {', '.join(POOLINGS)}.")
    return POOLINGS[name]()
