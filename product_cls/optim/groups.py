"""Parameter groups for optimisers: what is decayed, and how fast each layer learns."""

from dataclasses import dataclass
from typing import Any, Literal

from timm.models import group_parameters
from torch import nn

from product_cls.core.errors import UserError


@dataclass(frozen=True)
class Finetune:
    """How a pretrained backbone learns beside a new head.

    Attributes:
        layer_decay: learning rate of a layer by that of the one above it, above 0 and up to 1:
            ``lr * layer_decay^d`` in the d-th layer below the head. None for all alike.
        head_lr: learning rate of all that comes after the backbone (pooling, neck, head); None for
            the optimiser's.
        freeze: epochs for which the backbone stays as it is, batch-norm statistics too, and its
            dropout is off; ``all`` for ever.

    Raises:
        UserError: a value outside its range, or a decay of layers that never learn.
    """

    layer_decay: float | None = None
    head_lr: float | None = None
    freeze: int | Literal["all"] = 0

    def __post_init__(self) -> None:
        decay, rate, freeze = self.layer_decay, self.head_lr, self.freeze
        if decay is not None and not (_is_number(decay) and 0 < decay <= 1):
            raise UserError(
                f"finetune.layer_decay={decay}; allowed: above 0 and up to 1, or null for none."
            )
        if rate is not None and not (_is_number(rate) and rate > 0):
            raise UserError(f"finetune.head_lr={rate}; allowed: above 0, or null for optimizer.lr.")
        if freeze != "all" and not (type(freeze) is int and freeze >= 0):
            raise UserError(f"finetune.freeze={freeze}; allowed: a number of epochs, or all.")
        if decay is not None and freeze == "all":
            raise UserError(
                f"finetune.layer_decay={decay} changes nothing with finetune.freeze=all; "
                f"set finetune.layer_decay=null, or freeze a number of epochs."
            )

    def frozen(self, epoch: int) -> bool:
        """Whether the backbone stays as it is in this epoch, counted from 0."""
        return self.freeze == "all" or epoch < self.freeze


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parameter_groups(
    network: nn.Module, weight_decay: float, lr: float, finetune: Finetune | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and decay, the highest rate first.

    Args:
        network: whose parameters; what is not in its ``backbone`` counts as head.
        weight_decay: of matrices and kernels; vectors and scalars (biases, the affine parts of
            norms, GeM's exponent) get 0.
        lr: the optimiser's learning rate.
        finetune: None for one rate throughout.

    Raises:
        UserError: layers are to be decayed whose order timm does not know.
    """
    finetune = finetune or Finetune()
    head_lr = finetune.head_lr or lr
    depth = {} if finetune.layer_decay is None else backbone_depths(network)
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = lr if name.startswith("backbone.") else head_lr
        if name in depth:
            rate *= (finetune.layer_decay or 1.0) ** depth[name]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        grouped.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": grouped[rate, decay], "weight_decay": decay, "lr": rate}
        for rate, decay in sorted(grouped, reverse=True)
    ]


def backbone_depths(network: nn.Module) -> dict[str, int]:
    """How far below the head each parameter of ``network.backbone`` lies: 1 in the last layer.

    Layers are timm's: the stem, then each block. Names are those of ``network.named_parameters()``.

    Raises:
        UserError: timm does not know their order.
    """
    backbone: Any = network.backbone
    if not hasattr(backbone, "group_matcher"):
        raise UserError(
            f"finetune.layer_decay: timm does not know the order of the layers of "
            f"{type(backbone).__name__}; set it to null."
        )
    layer = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    count = max(layer.values()) + 1
    return {f"backbone.{name}": count - index for name, index in layer.items()}
