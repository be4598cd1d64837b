"""Backbone, pooling and head as one module that takes pictures as the loader gives them."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from product_cls.errors import UserError
from product_cls.models.backbone import build_backbone, normalization
from product_cls.models.pooling import build_pooling

HeadBuilder = Callable[[int], nn.Module]  # called with the number of features


class Network(nn.Module):
    """uint8 pictures in, the head's outputs out, in two steps: ``prepare``, then ``forward``.

    Between the two, on the device, batches are mixed.

    Args:
        backbone: a timm name.
        head: a function of the number of features that makes the head (the task's).
        pooling: ``avg`` | ``gem``.
        weights: see ``build_backbone``.
        drop_rate: dropout before the head, in [0, 1].
        drop_path_rate: stochastic depth of the backbone, in [0, 1].
        channels_last: memory format of pictures, which convolutions follow; faster on GPUs with
            bf16. Weights stay as they are: the AdamP package cannot step channels-last ones.
        mean, std: normalisation in [0, 1]; the backbone's own where None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        head: HeadBuilder,
        *,
        pooling: str = "avg",
        weights: str = "auto",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        channels_last: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not 0 <= rate < 1:
                raise UserError(f"model.{name}={rate}; allowed: 0 to 1, without 1.")
        self.backbone, self.weights = build_backbone(
            backbone, weights, drop_path_rate=drop_path_rate
        )
        own_mean, own_std = normalization(self.backbone, self.weights)
        mean, std = mean or own_mean, std or own_std
        self.spec: dict[str, Any] = {
            "backbone": backbone,
            "pooling": pooling,
            "drop_rate": drop_rate,
            "drop_path_rate": drop_path_rate,
            "mean": list(mean),
            "std": list(std),
        }
        self.pool = build_pooling(pooling)
        self.dropout = nn.Dropout(drop_rate)
        self.head = head(int(cast(Any, self.backbone).num_features))
        for name, value in (("mean", mean), ("std", std)):
            pixels = torch.tensor(value, dtype=torch.float32).view(1, -1, 1, 1) * 255
            self.register_buffer(name, pixels, persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 ``[B, 3, H, W]`` -> normalised float32 of the same shape, on the same device."""
        images = images.to(memory_format=self.memory_format)
        return (images.float() - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Normalised ``[B, 3, H, W]`` -> the head's outputs, ``[B, ...]``."""
        return self.head(self.dropout(self.pool(self.backbone(images))))

    @classmethod
    def from_spec(cls, spec: dict[str, Any], head: HeadBuilder) -> "Network":
        """A network as a checkpoint describes it, with random weights to be overwritten."""
        return cls(head=head, weights="none", **spec)
