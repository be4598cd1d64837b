"""Parameter groups for optimisers, with the weight decay and learning rate of each layer."""

from dataclasses import dataclass
from typing import Any, Literal

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Finetune:
    """How a pretrained backbone is trained together with a new head.

    Attributes:
        layer_decay: ratio of the learning rates of neighbouring layers, above 0 and up to 1: the
            d-th layer below the head has the rate ``lr * layer_decay^d``. None for equal rates.
        head_lr: learning rate of all layers after the backbone (pooling, neck, head); None for the
            optimiser's.
        freeze: number of first epochs in which the backbone, including its batch-norm statistics,
            is frozen and has no dropout; ``all`` for the whole run.
        lora: rank of the matrices that learn beside the backbone's linear layers, which are frozen
            then, 1 or more; None to train the backbone itself. See ``models.lora``.
        lora_alpha: their product counts ``lora_alpha / lora`` times; above 0.

    Raises:
        ValueError: a value outside its range, or ``layer_decay`` or ``lora`` for a backbone that
            never learns.
    """

    layer_decay: float | None = None
    head_lr: float | None = None
    freeze: int | Literal["all"] = 0
    lora: int | None = None
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        decay, rate, freeze = self.layer_decay, self.head_lr, self.freeze
        if decay is not None and not (_is_number(decay) and 0 < decay <= 1):
            raise ValueError(
                f"layer_decay={decay}; allowed: above 0 and up to 1, or null for equal rates."
            )
        if rate is not None and not (_is_number(rate) and rate > 0):
            raise ValueError(f"head_lr={rate}; allowed: above 0, or null for the optimiser's rate.")
        if freeze != "all" and not (type(freeze) is int and freeze >= 0):
            raise ValueError(f"freeze={freeze}; allowed: a number of epochs, or all.")
        if decay is not None and freeze == "all":
            raise ValueError(
                f"layer_decay={decay} has no effect with freeze=all; set it to null, or freeze a "
                f"number of epochs."
            )
        lora, alpha = self.lora, self.lora_alpha
        if lora is not None and not (type(lora) is int and lora >= 1):
            raise ValueError(f"lora={lora}; allowed: a rank of 1 or more, or null.")
        if not (_is_number(alpha) and 0 < alpha < float("inf")):
            raise ValueError(f"lora_alpha={alpha}; allowed: above 0.")
        if lora is not None and freeze == "all":
            raise ValueError(
                f"lora={lora} has no effect with freeze=all; set it to null, or freeze a number of "
                f"epochs."
            )

    def frozen(self, epoch: int) -> bool:
        """Whether the backbone is frozen in this epoch, counted from 0."""
        return self.freeze == "all" or epoch < self.freeze


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parameter_groups(
    network: nn.Module, weight_decay: float, lr: float, finetune: Finetune | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters, grouped by learning rate and weight decay.

    Args:
        network: its parameters outside ``backbone`` count as head.
        weight_decay: weight decay of matrices and kernels; vectors and scalars (biases, the affine
            parameters of norms, gains, GeM's exponent) get 0, whatever their number of dimensions,
            and so do those that timm excludes (class tokens, positions).
        lr: the optimiser's learning rate.
        finetune: None for the same rate everywhere.

    Returns:
        Groups for a torch optimiser, the highest learning rate first.

    Raises:
        ValueError: timm does not know the order of the backbone's layers.
    """
    finetune = finetune or Finetune()
    head_lr = finetune.head_lr or lr
    depth = {} if finetune.layer_decay is None else backbone_depths(network)
    kernels = {id(m.weight) for m in network.modules() if isinstance(m, nn.Linear | _ConvNd)}
    excluded = _without_decay(network)
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = lr if name.startswith("backbone.") else head_lr
        if name in depth:
            rate *= (finetune.layer_decay or 1.0) ** depth[name]
        decays = id(parameter) in kernels or _is_matrix(parameter)
        decay = weight_decay if decays and name not in excluded else 0.0
        grouped.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": grouped[rate, decay], "weight_decay": decay, "lr": rate}
        for rate, decay in sorted(grouped, reverse=True)
    ]


def _without_decay(network: nn.Module) -> set[str]:
    """Names of the backbone's parameters that timm excludes from weight decay."""
    excluded = getattr(getattr(network, "backbone", None), "no_weight_decay", set)
    return {f"backbone.{name}" for name in excluded()}


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether several dimensions are larger than 1; the gains of NFNets have shape [C, 1, 1, 1]."""
    return sum(length > 1 for length in parameter.shape) > 1


def backbone_depths(network: nn.Module) -> dict[str, int]:
    """Depth of each parameter of ``network.backbone`` below the head: 1 in the last layer.

    Layers are timm's: the stem, then each block. Names are those of ``network.named_parameters()``.

    Raises:
        ValueError: timm does not know the order of the layers.
    """
    backbone: Any = network.backbone
    if not hasattr(backbone, "group_matcher"):
        raise ValueError(
            f"timm does not know the order of the layers of {type(backbone).__name__}; allowed: "
            f"null."
        )
    layer = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    count = max(layer.values()) + 1
    return {f"backbone.{name}": count - index for name, index in layer.items()}
