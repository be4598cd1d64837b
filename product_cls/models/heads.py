"""Heads: an embedding and class scores with an angular margin; several labels side by side."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from product_cls.core.errors import UserError

# Below it 1 - cos^2 counts as 0: float32 has no finer steps there, and its root no finite gradient.
SMALLEST_SINE_SQUARED = 1e-7


def add_margin(cosine: Tensor, target: Tensor, margin: Tensor, *, easy: bool = False) -> Tensor:
    """ArcFace's angular margin on the target's cosine (Deng et al. 2019, arXiv 1801.07698).

    ``cos(theta + m)`` where that still falls with theta, which is up to ``theta = pi - m``; beyond,
    the straight line ``cos - m * sin(pi - m)`` goes on falling.

    Args:
        cosine: float32 ``[B, C]``, in [-1, 1].
        target: int64 ``[B]``, in [0, C).
        margin: float32 ``[B]``, radians, 0 to pi.
        easy: take the margin only where the cosine is positive, and leave it alone elsewhere.

    Returns:
        ``[B, C]``, other classes unchanged; gradients are finite everywhere.
    """
    chosen = cosine.gather(1, target[:, None]).squeeze(1)
    sine = (1.0 - chosen.square()).clamp(min=SMALLEST_SINE_SQUARED).sqrt()
    # At cos = +-1 the clamp would leave a sine of 3e-4, which the loss could see.
    sine = torch.where(chosen.abs() < 1.0, sine, torch.zeros_like(sine))
    turned = chosen * margin.cos() - sine * margin.sin()
    if easy:
        changed = torch.where(chosen > 0, turned, chosen)
    else:
        line = chosen - torch.sin(math.pi - margin) * margin
        changed = torch.where(chosen > torch.cos(math.pi - margin), turned, line)
    return cosine.scatter(1, target[:, None], changed[:, None])


class ArcMargin(nn.Module):
    """Scaled cosines between an embedding and a direction a class, with ArcFace's margin.

    In float32 under autocast.

    Args:
        in_features: D, of the embedding.
        num_classes: C.
        scale: factor of the cosines, above 0.
        margin: radians, 0 to pi / 2; of each class where it is a list of C.
        easy_margin: see ``add_margin``.
        subcenters: directions a class, of which the nearest counts (Deng et al. 2020, sub-center
            ArcFace); more than 1 lets a class look different from different sides.

    Attributes:
        strength: share of the margin in force, in [0, 1]; a schedule sets it.
    """

    margin: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        scale: float = 45.0,
        margin: float | list[float] = 0.4,
        easy_margin: bool = False,
        subcenters: int = 1,
    ) -> None:
        super().__init__()
        margins = torch.as_tensor(margin, dtype=torch.float32)
        if margins.ndim and len(margins) != num_classes:
            raise UserError(f"margin has {len(margins)} values for {num_classes} classes.")
        if not bool(((margins >= 0) & (margins <= math.pi / 2)).all()):
            raise UserError(f"margin={margin}; allowed: 0 to pi / 2, in radians.")
        if scale <= 0:
            raise UserError(f"scale={scale}; it must be above 0.")
        if subcenters < 1:
            raise UserError(f"subcenters={subcenters}; allowed: 1 or more.")
        self.scale, self.easy_margin, self.subcenters = scale, easy_margin, subcenters
        self.strength = 1.0
        self.weight = nn.Parameter(torch.empty(num_classes * subcenters, in_features))
        nn.init.xavier_uniform_(self.weight)
        # Not part of the state: a checkpoint is read for its directions, whatever the margin was.
        self.register_buffer("margin", margins.expand(num_classes).clone(), persistent=False)

    def cosine(self, embedding: Tensor) -> Tensor:
        """``[B, D]`` -> float32 ``[B, C]``, the cosine to each class's nearest direction."""
        with torch.autocast(embedding.device.type, enabled=False):
            # In half precision cosines near 1 come in steps of 1/2048, with gradients to match.
            cosine = F.linear(
                F.normalize(embedding.float(), dim=1), F.normalize(self.weight.float(), dim=1)
            ).clamp(-1.0, 1.0)
            return cosine.unflatten(1, (-1, self.subcenters)).amax(dim=2)

    def logits(self, cosine: Tensor, target: Tensor | None = None) -> Tensor:
        """Cosines ``[B, C]`` -> scaled logits ``[B, C]``, with the margin where targets are given.

        Args:
            target: int64 ``[B]``, in [0, C).
        """
        with torch.autocast(cosine.device.type, enabled=False):
            if target is not None:
                margin = self.margin.to(cosine.device)[target] * self.strength
                cosine = add_margin(cosine.float(), target, margin, easy=self.easy_margin)
            return self.scale * cosine

    def forward(self, embedding: Tensor, target: Tensor | None = None) -> Tensor:
        """``[B, D]`` -> logits, float32 ``[B, C]``; without targets ``scale * cosine``."""
        return self.logits(self.cosine(embedding), target)


class Embedded(NamedTuple):
    """What ``EmbeddingHead`` gives.

    Attributes:
        embedding: float32 ``[B, D]``, of any length; its direction is what counts.
        cosine: float32 ``[B, C]``, to each class.
    """

    embedding: Tensor
    cosine: Tensor


class EmbeddingHead(nn.Module):
    """The winning retrieval system's neck, Linear + BatchNorm + PReLU, and ``ArcMargin``.

    Args:
        in_features: of the pooled feature map.
        embedding: D, features of the embedding.
        arc: takes embeddings of D features.
        detached: class directions learn from the embedding without pulling on it, which is then
            left to another loss.
    """

    def __init__(
        self, in_features: int, embedding: int, arc: ArcMargin, *, detached: bool = False
    ) -> None:
        super().__init__()
        self.neck = nn.Sequential(
            nn.Linear(in_features, embedding), nn.BatchNorm1d(embedding), nn.PReLU()
        )
        self.arc, self.detached = arc, detached

    def forward(self, features: Tensor) -> Embedded:
        embedding = self.neck(features)
        return Embedded(
            embedding, self.arc.cosine(embedding.detach() if self.detached else embedding)
        )


# Learned variances stay within exp(-4) and exp(4). A head that its training pictures no longer
# teach anything, with a loss near 0, would else draw its own to 0 and its weight to infinity.
MOST_LOG_VARIANCE = 4.0


class MultiHeadLinear(nn.Module):
    """Logits of several labels, ``[B, sum of their classes]``, and where asked how uncertain each
    label is.

    Args:
        in_features: of the pooled feature map.
        classes: of each of H labels.
        uncertain: whether a variance a label is learnt.
    """

    def __init__(self, in_features: int, classes: list[int], *, uncertain: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, sum(classes))
        self.raw = nn.Parameter(torch.zeros(len(classes))) if uncertain else None

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits

    @property
    def log_variance(self) -> Tensor:
        """float32 ``[H]``, within ``MOST_LOG_VARIANCE`` and smoothly so: a plain bound would hold
        for good whoever once came to it, for it has no gradient there."""
        assert self.raw is not None
        return MOST_LOG_VARIANCE * torch.tanh(self.raw / MOST_LOG_VARIANCE)
