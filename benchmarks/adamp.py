"""One step of our AdamP against the `adamp` package, over the parameters of real networks.

    python benchmarks/adamp.py backbones=[tf_efficientnet_lite0,efficientnet_b0] device=auto

prints a table and writes benchmarks/results/adamp.json. ``--help`` lists the settings.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import adamp
import timm
import torch
from common import paired_seconds, ratio, report

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.optim.adamp import AdamP


@dataclass
class Arguments:
    """Time of one optimiser step: the `adamp` package, ours, and torch's AdamW for comparison.

    Gradients are random and constant. device: auto, cpu, cuda.
    """

    backbones: list[str] = field(
        default_factory=lambda: ["tf_efficientnet_lite0", "efficientnet_b0"]
    )
    classes: int = 1000
    device: str = "auto"
    repeats: int = 25
    out: str | None = None


def measure(backbone: str, arguments: Arguments, device: torch.device) -> dict[str, Any]:
    """One row: milliseconds per step, and the ratio."""
    network = timm.create_model(backbone, num_classes=arguments.classes).to(device)
    ways = {}
    for name, kind in (("package", adamp.AdamP), ("ours", AdamP), ("AdamW", torch.optim.AdamW)):
        parameters = list(deepcopy(network).parameters())
        draw = torch.Generator(device).manual_seed(0)
        for p in parameters:
            p.grad = torch.empty_like(p).normal_(0, 1e-3, generator=draw)
        ways[name] = kind(parameters, lr=1e-3, weight_decay=1e-2).step
    seconds = paired_seconds(ways, arguments.repeats, device=device)
    return {
        "backbone": backbone,
        "tensors": len(parameters),
        **{f"{name} ms": median(s) * 1e3 for name, s in seconds.items()},
        **ratio(seconds, "package", "ours"),
    }


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/adamp.py")
    if arguments.repeats < 2:
        raise UserError(f"repeats={arguments.repeats}; allowed: 2 or more.")
    if unknown := [name for name in arguments.backbones if not timm.is_model(name)]:
        raise UserError(f"backbones has '{unknown[0]}', which timm does not know.")
    device = pick_device(arguments.device)
    rows = [measure(backbone, arguments, device) for backbone in arguments.backbones]
    report("adamp", rows, f"A step of AdamP on {device}", arguments.out, "adamp", "timm")


if __name__ == "__main__":
    guard(main)
