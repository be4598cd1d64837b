"""Pools a feature map, or the tokens of a transformer, to a vector."""

from typing import Any

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
OF_TOKENS = ("cls", "map")  # only transformers can have these


def build_pooling(pooling: str) -> nn.Module:
    """A pooling layer of feature maps by name.

    Raises:
        ValueError: an unknown name.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling}; allowed: {', '.join((*POOLINGS, *OF_TOKENS))}.")
    return POOLINGS[pooling]()


class TokenPool(nn.Module):
    """Pools tokens ``[B, N, C]``, of which the first can be a class token and registers.

    ``cls`` takes the class token. ``avg`` and ``gem`` pool the patches and leave out class token
    and registers. ``map`` is the network's own attention pooling, on all tokens.

    Args:
        pooling: ``cls`` | ``avg`` | ``gem`` | ``map``.
        backbone: whose layers for pooling are used: ``attn_pool``, and ``fc_norm`` after pooling.
        name: of the backbone, for messages.

    Raises:
        ValueError: an unknown name, or a pooling that the network does not have.
    """

    def __init__(self, pooling: str, backbone: Any, name: str) -> None:
        super().__init__()
        self.prefix = int(getattr(backbone, "num_prefix_tokens", 0) or 0)
        has_class = self.prefix > 0 and getattr(backbone, "has_class_token", True)
        own = getattr(backbone, "attn_pool", None)
        allowed = [*(["cls"] if has_class else []), "avg", "gem", *(["map"] if own else [])]
        if pooling not in allowed:
            lacks = {"cls": "class token", "map": "attention pooling"}
            why = f": {name} has no {lacks[pooling]}" if pooling in lacks else ""
            raise ValueError(f"pooling={pooling}{why}; allowed: {', '.join(allowed)}.")
        self.pooling = pooling
        self.pool = None if pooling in OF_TOKENS else build_pooling(pooling)
        if own is not None and pooling != "map":
            backbone.attn_pool = None  # its weights would never learn

    def forward(self, tokens: Tensor, backbone: Any) -> Tensor:
        """Tokens float ``[B, N, C]`` -> ``[B, C]``.

        Args:
            backbone: the one whose tokens they are.
        """
        if self.pooling == "cls":
            pooled = tokens[:, 0]
        elif self.pool is None:
            pooled = backbone.attn_pool(tokens)
        else:  # as a map of one column
            pooled = self.pool(tokens[:, self.prefix :].transpose(1, 2)[..., None])
        normed: Tensor = backbone.fc_norm(pooled) if hasattr(backbone, "fc_norm") else pooled
        return normed
