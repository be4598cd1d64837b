"""Backbone, pooling and head as one module that takes uint8 pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from product_cls.models.backbone import build_backbone, normalization
from product_cls.models.pooling import build_pooling

HeadBuilder = Callable[[int], nn.Module]  # number of features -> head


class Network(nn.Module):
    """Turns uint8 pictures into the head's outputs in two steps: ``prepare``, then ``forward``.

    Mixup and CutMix happen between the two, on the device.

    Args:
        backbone: a timm name.
        head: builds the head (the task's) for a number of features.
        pooling: ``avg`` | ``gem``.
        weights: see ``build_backbone``.
        drop_rate: dropout before the head, in [0, 1).
        drop_path_rate: stochastic depth of the backbone, in [0, 1).
        channels_last: memory format of pictures, which convolutions adopt; faster on CPUs, and on
            GPUs with bf16. The weights do not change.
        mean, std: normalisation of pixels in [0, 1], one value per channel; None for the
            backbone's own.

    Raises:
        ValueError: a value outside its range, an unknown backbone, or weights out of reach.
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
                raise ValueError(f"{name}={rate}; allowed: 0 to 1, without 1.")
        self.backbone, self.weights = build_backbone(backbone, weights, drop_path_rate)
        self.channels_first = getattr(self.backbone, "output_fmt", "NCHW") != "NHWC"
        own_mean, own_std = normalization(self.backbone, self.weights)
        mean, std = mean or own_mean, std or own_std
        self.spec: dict[str, Any] = {
            "backbone": backbone,
            "pooling": pooling,
            "drop_rate": drop_rate,
            "drop_path_rate": drop_path_rate,
        }
        self.pool = build_pooling(pooling)
        self.dropout = nn.Dropout(drop_rate)
        self.head = head(self._count_features(backbone))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.empty(0), persistent=False)
        self.normalise(mean, std)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def normalise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the normalisation of pixels in [0, 1], one value per channel."""
        for name, value in (("mean", mean), ("std", std)):
            self.spec[name] = list(value)
            pixels = torch.tensor(value, dtype=torch.float32, device=getattr(self, name).device)
            setattr(self, name, pixels.view(1, -1, 1, 1) * 255)

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures uint8 ``[B, 3, H, W]`` -> normalised float32 of the same shape and device."""
        images = images.to(memory_format=self.memory_format)
        return (images.float() - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures float32 ``[B, 3, H, W]`` -> the head's outputs, ``[B, ...]``."""
        pooled = self.dropout(self.pooled(images))
        # In bfloat16, logits near 10 have steps of 1/16, which would coarsen the scores.
        with torch.autocast(images.device.type, enabled=False):
            return self.head(pooled.float())

    def pooled(self, images: Tensor) -> Tensor:
        """Normalised pictures float32 ``[B, 3, H, W]`` -> pooled features float ``[B, F]``."""
        features: Tensor = self.pool(self._features(images))
        return features

    def _features(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        return features if self.channels_first else features.permute(0, 3, 1, 2)

    def _count_features(self, name: str) -> int:
        """Channels of the feature map, measured because timm's ``num_features`` can differ."""
        training = self.backbone.training
        try:
            with torch.inference_mode():
                self.backbone.eval()
                features = self._features(torch.zeros(1, 3, 64, 64))
                assert features.ndim == 4
        except (AssertionError, RuntimeError):
            raise ValueError(
                f"backbone={name} returns no feature map for pictures of any size; allowed: "
                f"convolutional networks (EfficientNet, ResNet, RepVGG, NFNet, ConvNeXt, ...)."
            ) from None
        finally:
            self.backbone.train(training)
        return int(features.shape[1])

    @classmethod
    def from_spec(cls, spec: dict[str, Any], head: HeadBuilder) -> "Network":
        """The network of a checkpoint, with random weights; the caller loads its own."""
        return cls(head=head, weights="none", **spec)
