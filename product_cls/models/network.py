"""Backbone, pooling and head as one module that takes uint8 pictures."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from product_cls.models.architecture import Architecture, find_architecture
from product_cls.models.backbone import build_backbone, normalization
from product_cls.models.pooling import OF_TOKENS, POOLINGS, TokenPool, build_pooling

HeadBuilder = Callable[[int], nn.Module]  # number of features -> head


class Network(nn.Module):
    """Turns uint8 pictures into the head's outputs in two steps: ``prepare``, then ``forward``.

    Mixup and CutMix happen between the two, on the device.

    Args:
        backbone: a timm name.
        head: builds the head (the task's) for a number of features.
        pooling: ``avg`` | ``gem``; of transformers also ``cls`` | ``map``, see ``TokenPool``.
        weights: see ``build_backbone``.
        drop_rate: dropout before the head, in [0, 1).
        drop_path_rate: stochastic depth of the backbone, in [0, 1).
        channels_last: memory format of pictures, which convolutions adopt; faster on CPUs, and on
            GPUs with bf16. The weights do not change.
        mean, std: normalisation of pixels in [0, 1], one value per channel; None for the
            backbone's own.
        size: height and width of the pictures in pixels, for networks that are built for one size;
            None for their own.
        architecture: from a checkpoint, see ``Architecture.record``; None finds it out.
        joined: further networks whose features follow those of this one: their arguments of this
            class.

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
        size: tuple[int, int] | None = None,
        architecture: dict[str, Any] | None = None,
        joined: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not 0 <= rate < 1:
                raise ValueError(f"{name}={rate}; allowed: 0 to 1, without 1.")
        planned = (
            find_architecture(backbone, size)
            if architecture is None
            else Architecture.of(backbone, architecture)
        )
        self.architecture = planned
        self.backbone, self.weights = build_backbone(backbone, weights, drop_path_rate, planned)
        self.channels_first = getattr(self.backbone, "output_fmt", "NCHW") != "NHWC"
        own_mean, own_std = normalization(self.backbone, self.weights)
        mean, std = mean or own_mean, std or own_std
        self.spec: dict[str, Any] = {
            "backbone": planned.name,
            "pooling": pooling,
            "drop_rate": drop_rate,
            "drop_path_rate": drop_path_rate,
        }
        if record := planned.record():
            self.spec["architecture"] = record
        if not planned.tokens and pooling in OF_TOKENS:
            raise ValueError(
                f"pooling={pooling}: {planned.name} has no tokens; allowed: {', '.join(POOLINGS)}."
            )
        self.pool = (
            TokenPool(pooling, self.backbone, planned.name)
            if planned.tokens
            else build_pooling(pooling)
        )
        self.dropout = nn.Dropout(drop_rate)
        others = [Network(head=_no_head, **{"size": size, **other}) for other in joined]
        self.others = nn.ModuleList(others)
        if others:
            self.spec["joined"] = [other.spec for other in others]
        own = self._count_features()
        self.features: int = own + sum(other.features for other in others)
        self.head = head(self.features)
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
        """Normalised pictures float32 ``[B, 3, H, W]`` -> pooled features float ``[B, F]``, those
        of joined networks last."""
        if not self.others:
            return self.own_pooled(images)
        pixels = images * self.std + self.mean
        others = [other.own_pooled((pixels - other.mean) / other.std) for other in self.joined]
        return torch.cat([self.own_pooled(images), *others], dim=1)

    def own_pooled(self, images: Tensor) -> Tensor:
        """``pooled`` without the features of joined networks."""
        features = self.architecture.features(self.backbone, images)
        if self.architecture.tokens:
            pooled: Tensor = self.pool(features, self.backbone)
        else:
            pooled = self.pool(features if self.channels_first else features.permute(0, 3, 1, 2))
        return pooled

    def _count_features(self) -> int:
        """Number of features, measured because timm's ``num_features`` can differ."""
        training = self.backbone.training
        with torch.inference_mode():
            self.backbone.eval()
            picture = torch.zeros(1, 3, *self.architecture.example)
            features = self.architecture.features(self.backbone, picture)
        self.backbone.train(training)
        last = self.architecture.tokens or not self.channels_first
        return int(features.shape[-1 if last else 1])

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that the network takes pictures of a height and width in pixels.

        Raises:
            ValueError: it does not.
        """
        for network in (self, *self.joined):
            network.architecture.check_size(size)

    @property
    def joined(self) -> "list[Network]":
        """The networks whose features follow those of this one."""
        return [cast(Network, other) for other in self.others]

    @property
    def resizes(self) -> bool:
        """Whether this network, without those joined to it, interpolates its positions."""
        planned = self.architecture
        return planned.tokens and bool(planned.arguments.get("dynamic_img_size"))

    def for_size(self, size: tuple[int, int]) -> "Network":
        """The network for pictures of one size, such as an exported file has.

        A transformer that interpolates its positions for each picture gets those of this size; any
        other network is returned as it is.

        Args:
            size: height and width in pixels.
        """
        if not any(network.resizes for network in (self, *self.joined)):
            return self
        resized: Any = copy.deepcopy(self)
        for network in (resized, *resized.joined):
            if network.resizes:
                network.backbone.set_input_size(img_size=size)
                network.spec = {
                    **network.spec,
                    "architecture": network.architecture.fixed(size).record(),
                }
        spec = resized.spec
        if resized.joined:
            spec = {**spec, "joined": [other.spec for other in resized.joined]}
        fixed = Network.from_spec(spec, lambda features: copy.deepcopy(self.head))
        fixed.load_state_dict(resized.state_dict())
        fixed.memory_format = self.memory_format
        return fixed.train(self.training)

    @classmethod
    def from_spec(cls, spec: dict[str, Any], head: HeadBuilder) -> "Network":
        """The network of a checkpoint, with random weights; the caller loads its own."""
        # A checkpoint names no files to load.
        others = [
            {"architecture": {}, **other, "weights": "none", "joined": ()}
            for other in spec.get("joined", ())
        ]
        return cls(head=head, weights="none", **{"architecture": {}, **spec, "joined": others})


def _no_head(features: int) -> nn.Module:
    return nn.Identity()
