"""LoRA (Hu et al. 2021, arXiv 2106.09685): a transformer learns through small added matrices.

The library ``peft`` adds them. They are merged into the weights after training, so that a finished
run holds an ordinary network.
"""

from typing import Any

import torch
from torch import Tensor, nn

from product_cls.core.errors import UserError
from product_cls.models.network import Network

MARK = ".lora_A."  # in the names of an adapter's first matrix


def add_adapters(network: Network, rank: int, alpha: float) -> int:
    """Freeze the backbone and add trainable matrices of low rank to its linear layers, in place.

    A layer gets them if the network calls it; some attentions read a layer's weights instead, and
    matrices beside it would learn nothing.

    Args:
        network: its outputs stay the same, because the added matrices begin at a product of 0.
        rank: of the matrices, 1 or more.
        alpha: the product of the matrices counts ``alpha / rank`` times.

    Returns:
        Number of added parameters.

    Raises:
        ValueError: the backbone calls no linear layer, or it trains several networks.
        UserError: ``peft`` is not installed.
    """
    if network.others:
        raise ValueError("it does not go with model.joined; allowed: null")
    names = _called_linears(network)
    if not names:
        raise ValueError(
            f"{network.spec['backbone']} has no linear layers; allowed: null, or a transformer"
        )
    peft = _peft()
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, bias="none")
    peft.inject_adapter_in_model(settings, network.backbone)
    added = 0
    for name, parameter in network.backbone.named_parameters():
        learns = ".lora_" in name
        parameter.requires_grad_(learns)
        added += parameter.numel() if learns else 0
    return added


def merge_adapters(network: Network) -> None:
    """Add the adapters' products to the weights and remove the adapters, in place.

    Raises:
        UserError: the merged weights are not finite.
    """
    from peft.tuners.lora import LoraLayer

    adapted = {
        name: layer for name, layer in network.backbone.named_modules() if _is(layer, LoraLayer)
    }
    for name, layer in adapted.items():
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:  # peft's, for weights that are not finite
            raise UserError(f"The adapters of {name} cannot be merged: {error}.") from None
        parent, _, child = name.rpartition(".")
        setattr(network.backbone.get_submodule(parent), child, layer.get_base_layer())
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(True)


def has_adapters(state: dict[str, Tensor]) -> bool:
    """Whether a state dict is one of training with adapters that are not merged."""
    return any(MARK in name for name in state)


def _is(layer: Any, kind: type) -> bool:
    return isinstance(layer, kind)


def _called_linears(network: Network) -> list[str]:
    """Names of the backbone's linear layers whose ``forward`` runs."""
    called: dict[str, None] = {}
    hooks = []
    for name, layer in network.backbone.named_modules():
        if isinstance(layer, nn.Linear):

            def note(*_: Any, name: str = name) -> None:
                called[name] = None

            hooks.append(layer.register_forward_hook(note))
    training = network.training
    try:
        with torch.inference_mode():
            picture = torch.zeros(1, 3, *network.architecture.example)
            network.eval().own_pooled(picture)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return list(called)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError("finetune.lora needs peft: pip install 'product-cls[lora]'.") from None
    return peft
