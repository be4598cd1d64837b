"""Variants of a training step: precision, memory format, compilation, optimisers.

    python benchmarks/step_variants.py models=[b0,b1,b2,nfnet_f0] size=256 batch=128      # a GPU
    python benchmarks/step_variants.py models=[tiny] size=32 batch=8 steps=2              # a CPU

prints a table and writes benchmarks/results/step_variants.json. ``--help`` lists the settings.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import adamp
import torch
from common import paired_seconds, ratio, report
from torch.nn.functional import cross_entropy
from train_step import BACKBONES

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.models.network import Network
from product_cls.optim.adamp import AdamP
from product_cls.optim.groups import parameter_groups
from product_cls.tasks import build_task

# bf16, channels last, compiled, optimiser. Each differs from the one above it, or from `usual`.
VARIANTS: dict[str, tuple[bool, bool, bool, str]] = {
    "float32": (False, False, False, "AdamP"),
    "float32, channels last": (False, True, False, "AdamP"),
    "bf16": (True, False, False, "AdamP"),
    "usual": (True, True, False, "AdamP"),
    "usual, compiled": (True, True, True, "AdamP"),
    "usual, adamp package": (True, True, False, "adamp package"),
    "usual, AdamW one by one": (True, True, False, "AdamW one by one"),
    "usual, AdamW foreach": (True, True, False, "AdamW foreach"),
    "usual, AdamW fused": (True, True, False, "AdamW fused"),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamP": AdamP,
    "adamp package": adamp.AdamP,
    "AdamW one by one": partial(torch.optim.AdamW, foreach=False),
    "AdamW foreach": partial(torch.optim.AdamW, foreach=True),
    "AdamW fused": partial(torch.optim.AdamW, fused=True),
}


@dataclass
class Arguments:
    """Forward, backward and step on one batch on the device, in a bare loop.

    usual: as in a run on a GPU (bf16, channels last, our AdamP); ratios are relative to it. The
    variants take turns of `steps` steps; the first turn, with compilation, is not counted.

    variants: names; empty means all. device: auto, cpu, cuda.
    """

    models: list[str] = field(default_factory=lambda: ["b0"])
    size: int = 256
    batch: int = 128
    classes: int = 1000
    variants: list[str] = field(default_factory=list)
    steps: int = 10
    repeats: int = 7
    device: str = "auto"
    out: str | None = None


def variant(
    model: str, name: str, images: torch.Tensor, target: torch.Tensor, arguments: Arguments
) -> Callable[[], None]:
    """A function that takes ``arguments.steps`` steps."""
    bf16, channels_last, compiled, optimizer = VARIANTS[name]
    torch.manual_seed(0)
    names = [str(k) for k in range(arguments.classes)]
    task = build_task({"name": "single_label", "label": "label", "classes": names})
    network = Network(
        BACKBONES[model], task.head, weights="none", drop_rate=0.2, channels_last=channels_last
    )
    network = network.to(images.device).train()
    if compiled:
        network.compile()
    chosen = OPTIMIZERS[optimizer](
        parameter_groups(network, 1e-2, 1e-3), lr=1e-3, weight_decay=1e-2
    )

    def steps() -> None:
        for _ in range(arguments.steps):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                loss = cross_entropy(network(network.prepare(images)), target)
            chosen.zero_grad()
            loss.backward()
            chosen.step()

    return steps


def measure(model: str, arguments: Arguments, device: torch.device) -> list[dict[str, Any]]:
    """One row for each variant."""
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = torch.randint(256, shape, dtype=torch.uint8, device=device)
    target = torch.arange(arguments.batch, device=device) % arguments.classes
    ways = {
        name: variant(model, name, images, target, arguments)
        for name in arguments.variants or VARIANTS
    }
    seconds = paired_seconds(ways, arguments.repeats, device=device)
    return [
        {
            "model": model,
            "variant": name,
            "ms a step": median(found) / arguments.steps * 1e3,
            "pictures /s": arguments.steps * arguments.batch / median(found),
            **(ratio(seconds, "usual", name) if "usual" in seconds else {}),
        }
        for name, found in seconds.items()
    ]


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/step_variants.py")
    for key, names, known in (
        ("models", arguments.models, BACKBONES),
        ("variants", arguments.variants, VARIANTS),
    ):
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{key} has '{unknown[0]}'; allowed: {', '.join(known)}.")
    for key, least in (("size", 32), ("batch", 2), ("steps", 1), ("repeats", 2)):
        if getattr(arguments, key) < least:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: {least} or more.")
    device = pick_device(arguments.device)
    torch.backends.cudnn.benchmark = True
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        rows += measure(model, arguments, device)
    title = f"Training steps on {device}, {arguments.batch} pictures of {arguments.size} px"
    report("step_variants", rows, title, arguments.out, "timm", "adamp")


if __name__ == "__main__":
    guard(main)
