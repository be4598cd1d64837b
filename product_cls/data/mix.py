"""Mixup and CutMix on a batch, for any task.

Both return mixed images, a permutation and lambda. The loss is
``lam * loss(out, y) + (1 - lam) * loss(out, y[perm])``, for labels of any kind.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MIX_NAMES = ("mixup", "cutmix")


class Mixed(NamedTuple):
    """A mixed batch.

    Attributes:
        images: ``[B, C, H, W]``, with the dtype of the input.
        perm: int64 ``[B]``, index of each image's partner.
        lam: share of the first image, in [0, 1]; 1 if nothing was mixed.
    """

    images: Tensor
    perm: Tensor
    lam: float


def cutmix_box(height: int, width: int, lam: float, cy: int, cx: int) -> tuple[int, int, int, int]:
    """Rows and columns of the patch that CutMix pastes (Yun et al. 2019, arXiv 1905.04899).

    Before clipping, the patch covers ``1 - lam`` of the image. Clipping at a border makes it
    smaller, so lambda must be corrected from the returned box.

    Args:
        height, width: image size in pixels.
        lam: share of the first image to keep, in [0, 1].
        cy, cx: centre of the patch, in pixels.

    Returns:
        ``(y0, y1, x0, x1)``, half-open, inside the image.
    """
    side = np.sqrt(1.0 - lam)
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return (
        max(cy - half_y, 0),
        min(cy + half_y, height),
        max(cx - half_x, 0),
        min(cx + half_x, width),
    )


def mixup(images: Tensor, perm: Tensor, lam: float) -> Mixed:
    """Blend each image with its partner (Zhang et al. 2018, arXiv 1710.09412).

    Args:
        images: float ``[B, C, H, W]``; not modified.
        perm: int64 ``[B]``.
        lam: weight of the first image, in [0, 1].
    """
    return Mixed(torch.lerp(images[perm], images, lam), perm, lam)


def cutmix(images: Tensor, perm: Tensor, lam: float, cy: int, cx: int) -> Mixed:
    """Paste the partner's patch into each image; the returned lambda is the share that remains.

    Args:
        images: ``[B, C, H, W]``; not modified.
        perm: int64 ``[B]``.
        lam: share to keep before clipping, in [0, 1].
        cy, cx: centre of the patch, in pixels.
    """
    height, width = images.shape[-2:]
    y0, y1, x0, x1 = cutmix_box(height, width, lam, cy, cx)
    mixed = images.clone()
    mixed[..., y0:y1, x0:x1] = images[perm, :, y0:y1, x0:x1]
    return Mixed(mixed, perm, 1.0 - (y1 - y0) * (x1 - x0) / (height * width))


class Mix:
    """Draws for each batch whether to mix it, by mixup or by CutMix (never both).

    Args:
        mixup: alpha of the Beta(alpha, alpha) distribution of mixup's lambda; 0 disables mixup.
        cutmix: the same for CutMix.
        p: share of the batches to mix, in [0, 1].

    Raises:
        ValueError: an alpha that is negative or not finite, or ``p`` outside [0, 1].
    """

    def __init__(self, mixup: float = 1.0, cutmix: float = 1.0, p: float = 1.0) -> None:
        alphas = {"mixup": mixup, "cutmix": cutmix}
        for name, alpha in alphas.items():
            if not 0 <= alpha < float("inf"):
                raise ValueError(f"{name}={alpha}; allowed: 0 or more (alpha of a Beta).")
        if not 0 <= p <= 1:
            raise ValueError(f"p={p}; allowed: 0 to 1.")
        self.alphas = {name: alpha for name, alpha in alphas.items() if alpha > 0}
        self.p = p

    def __call__(self, images: Tensor, generator: np.random.Generator | None = None) -> Mixed:
        """Mix a batch.

        Args:
            images: float ``[B, C, H, W]``; not modified.
            generator: source of the draws; None uses a fresh, unseeded one.
        """
        rng = np.random.default_rng() if generator is None else generator
        count, _, height, width = images.shape
        if not self.alphas or count < 2 or rng.random() >= self.p:
            return Mixed(images, torch.arange(count, device=images.device), 1.0)
        # Drawn for a single method, too, which then mixes the same as beside the other.
        methods = list(self.alphas)
        method = methods[int(rng.integers(len(MIX_NAMES))) % len(methods)]
        lam = float(rng.beta(self.alphas[method], self.alphas[method]))
        perm = torch.from_numpy(rng.permutation(count)).to(images.device)
        if method == "mixup":
            return mixup(images, perm, lam)
        return cutmix(images, perm, lam, int(rng.integers(height)), int(rng.integers(width)))
