"""Heads: an embedding with ArcFace's angular margin, and linear heads for several labels."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Smaller values of 1 - cos^2 are clamped: float32 has no finer steps there, and the gradient of the
# square root is infinite at 0.
SMALLEST_SINE_SQUARED = 1e-7


def add_margin(cosine: Tensor, target: Tensor, margin: Tensor, *, easy: bool = False) -> Tensor:
    """ArcFace's angular margin on the target's cosine (Deng et al. 2019, arXiv 1801.07698).

    The result is ``cos(theta + m)`` up to ``theta = pi - m``, where it stops falling with theta.
    Beyond that it is ``cos(theta) - m * sin(pi - m)``, which continues to fall.

    Args:
        cosine: float32 ``[B, C]``, in [-1, 1].
        target: int64 ``[B]``, in [0, C).
        margin: float32 ``[B]``, radians, 0 to pi.
        easy: apply the margin only to positive cosines.

    Returns:
        float32 ``[B, C]``; other classes are unchanged, and gradients are finite everywhere.
    """
    target_cosine = cosine.gather(1, target[:, None]).squeeze(1)
    sine = (1.0 - target_cosine.square()).clamp(min=SMALLEST_SINE_SQUARED).sqrt()
    # At cos = +-1 the clamp would leave a sine of 3e-4, which would show in the loss.
    sine = torch.where(target_cosine.abs() < 1.0, sine, torch.zeros_like(sine))
    rotated = target_cosine * margin.cos() - sine * margin.sin()
    if easy:
        with_margin = torch.where(target_cosine > 0, rotated, target_cosine)
    else:
        line = target_cosine - torch.sin(math.pi - margin) * margin
        with_margin = torch.where(target_cosine > torch.cos(math.pi - margin), rotated, line)
    return cosine.scatter(1, target[:, None], with_margin[:, None])


class ArcMargin(nn.Module):
    """Scaled cosines between an embedding and a learnt direction per class, with ArcFace's margin.

    Computed in float32, also under autocast.

    Args:
        in_features: D, features of the embedding.
        num_classes: C.
        scale: factor of the cosines, above 0.
        margin: radians, 0 to pi / 2; a number, or a list of C.
        easy_margin: see ``add_margin``.
        subcenters: directions per class, of which the nearest counts (Deng et al. 2020, sub-center
            ArcFace); with more than 1, a class may look different from different sides.

    Attributes:
        strength: factor of the margin, in [0, 1]; a schedule sets it.

    Raises:
        ValueError: a value outside its range.
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
        # On the CPU even where a network is only planned, on the meta device.
        margins = torch.as_tensor(margin, dtype=torch.float32, device="cpu")
        if margins.ndim and len(margins) != num_classes:
            raise ValueError(
                f"margin={margin} has {len(margins)} values for {num_classes} classes; give one "
                f"for each."
            )
        if not bool(((margins >= 0) & (margins <= math.pi / 2)).all()):
            raise ValueError(f"margin={margin}; allowed: 0 to pi / 2, in radians.")
        if scale <= 0:
            raise ValueError(f"scale={scale}; allowed: above 0.")
        if subcenters < 1:
            raise ValueError(f"subcenters={subcenters}; allowed: 1 or more.")
        self.scale, self.easy_margin, self.subcenters = scale, easy_margin, subcenters
        self.strength = 1.0
        self.weight = nn.Parameter(torch.empty(num_classes * subcenters, in_features))
        nn.init.xavier_uniform_(self.weight)
        # Not part of the state: a checkpoint is loaded for its directions, with any margin.
        self.register_buffer("margin", margins.expand(num_classes).clone(), persistent=False)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Embeddings float ``[B, D]`` -> cosines to the nearest direction of each class, float32
        ``[B, C]``, in [-1, 1]."""
        with torch.autocast(embedding.device.type, enabled=False):
            # In half precision, cosines near 1 have steps of 1/2048, and gradients are as coarse.
            cosine = F.linear(
                F.normalize(embedding.float(), dim=1), F.normalize(self.weight.float(), dim=1)
            ).clamp(-1.0, 1.0)
            return cosine.unflatten(1, (-1, self.subcenters)).amax(dim=2)

    def logits(self, cosine: Tensor, target: Tensor | None = None) -> Tensor:
        """Cosines float ``[B, C]`` -> scaled logits ``[B, C]``, with the margin for any targets.

        Args:
            target: int64 ``[B]``, in [0, C).
        """
        with torch.autocast(cosine.device.type, enabled=False):
            if target is not None:
                margin = self.margin.to(cosine.device)[target] * self.strength
                cosine = add_margin(cosine.float(), target, margin, easy=self.easy_margin)
            return self.scale * cosine

    def forward(self, embedding: Tensor, target: Tensor | None = None) -> Tensor:
        """Embeddings float ``[B, D]`` -> logits float32 ``[B, C]``: ``cosine``, then ``logits``."""
        return self.logits(self.cosine(embedding), target)


class EmbeddingOutputs(NamedTuple):
    """Outputs of ``EmbeddingHead``.

    Attributes:
        embedding: float32 ``[B, D]``, not normalised.
        cosine: to each class, float32 ``[B, C]``, in [-1, 1].
    """

    embedding: Tensor
    cosine: Tensor


class EmbeddingHead(nn.Module):
    """The neck of the winning retrieval system, Linear + BatchNorm + PReLU, and ``ArcMargin``.

    Args:
        in_features: features of the pooled feature map.
        embedding: D, features of the embedding.
        arc: the margin layer, for embeddings of D features.
        detached: stop gradients of the cosines at the embedding, which then only another loss
            trains.
    """

    def __init__(
        self, in_features: int, embedding: int, arc: ArcMargin, *, detached: bool = False
    ) -> None:
        super().__init__()
        self.neck = nn.Sequential(
            nn.Linear(in_features, embedding), nn.BatchNorm1d(embedding), nn.PReLU()
        )
        self.arc, self.detached = arc, detached

    def forward(self, features: Tensor) -> EmbeddingOutputs:
        """Pooled features float32 ``[B, in_features]`` -> embeddings and cosines."""
        embedding = self.neck(features)
        return EmbeddingOutputs(
            embedding, self.arc.cosine(embedding.detach() if self.detached else embedding)
        )


class Neighbours(nn.Module):
    """Votes of the k most similar of N learned pictures, by the cosine of standardised features.

    A picture's vote is ``exp(cosine / VOTES)``, as in the evaluation of DINO (Caron et al. 2021,
    arXiv 2104.14294).

    Args:
        in_features: D.
        num_classes: C.
        pictures: N, 1 or more.
        k: pictures that vote; all of them if there are fewer.

    Raises:
        ValueError: a value outside its range.
    """

    features: Tensor
    labels: Tensor
    mean: Tensor
    deviation: Tensor
    temperature: Tensor

    VOTES = 0.07
    LEAST = 1e-3  # share of the votes that all classes together get unasked

    def __init__(self, in_features: int, num_classes: int, pictures: int, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k={k}; allowed: 1 or more.")
        if pictures < 1:
            raise ValueError(f"pictures={pictures}; allowed: 1 or more.")
        self.num_classes, self.k = num_classes, min(k, pictures)
        self.register_buffer("features", torch.zeros(pictures, in_features))
        self.register_buffer("labels", torch.zeros(pictures, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("deviation", torch.ones(in_features))
        self.register_buffer("temperature", torch.tensor(1.0))

    def learn(self, features: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor) -> None:
        """Keep the pictures that vote.

        Args:
            features: float32 ``[N, D]``, as the backbone gives them.
            labels: int64 ``[N]``, in [0, C).
            mean, deviation: of the features, float32 ``[D]``.
        """
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.labels.copy_(labels)
        self.features.copy_(self._direction(features))

    def cooled(self, temperature: float) -> "Neighbours":
        """The same pictures, with logits that are divided by a temperature."""
        other = Neighbours(self.features.shape[1], self.num_classes, len(self.features), self.k)
        other.load_state_dict(self.state_dict())
        other.temperature.mul_(temperature)
        return other

    def _direction(self, features: Tensor) -> Tensor:
        return F.normalize((features - self.mean) / self.deviation, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features float32 ``[B, D]`` -> logarithms of the classes' shares of the votes, divided by
        the temperature, ``[B, C]``."""
        cosine = self._direction(features) @ self.features.T
        nearest, rows = cosine.topk(self.k, dim=1)
        votes = torch.softmax(nearest / self.VOTES, dim=1)
        # Not by scatter_add into zeros, whose number of rows an exported file would fix.
        voted = F.one_hot(self.labels[rows], self.num_classes).to(votes.dtype)
        shares = (votes[:, :, None] * voted).sum(dim=1)
        smoothed = (1 - self.LEAST) * shares + self.LEAST / self.num_classes
        return torch.log(smoothed) / self.temperature


# Learnt variances stay between exp(-4) and exp(4). Otherwise the variance of a head whose loss is
# near 0 would go to 0 and its weight to infinity.
MOST_LOG_VARIANCE = 4.0


class MultiHeadLinear(nn.Module):
    """Logits of several labels, concatenated, and optionally the uncertainty of each label.

    Args:
        in_features: features of the pooled feature map.
        classes: number of classes of each of the H labels.
        uncertain: whether to learn a variance for each label.
    """

    def __init__(self, in_features: int, classes: list[int], *, uncertain: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, sum(classes))
        self.raw = nn.Parameter(torch.zeros(len(classes))) if uncertain else None

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features float32 ``[B, in_features]`` -> logits ``[B, sum of classes]``."""
        logits: Tensor = self.linear(features)
        return logits

    @property
    def log_variance(self) -> Tensor:
        """Logarithm of each label's variance, float32 ``[H]``, within +-``MOST_LOG_VARIANCE``.

        The bound is smooth: a clamp has no gradient, so a value that reached it would stay there.
        """
        assert self.raw is not None
        return MOST_LOG_VARIANCE * torch.tanh(self.raw / MOST_LOG_VARIANCE)
