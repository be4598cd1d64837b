"""Parameter groups for optimisers."""

from typing import Any

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups, so that norms and biases are not decayed.

    Args:
        module: whose parameters.
        weight_decay: of matrices and kernels; vectors and scalars (biases, the affine parts of
            norms, GeM's exponent) get 0.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
