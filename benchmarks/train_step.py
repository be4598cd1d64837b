"""Overhead of Lightning and ProductModule per training step, against a bare PyTorch loop.

    python benchmarks/train_step.py model=lite0 size=96 batch=32          # a CPU
    python benchmarks/train_step.py model=b0 size=256 batch=128 precision=bf16-mixed   # a GPU

prints a table and writes benchmarks/results/train_step.json. ``--help`` lists the settings.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from common import report, waves
from torch.utils.data import DataLoader, IterableDataset

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.models.network import Network
from product_cls.optim.adamp import AdamP
from product_cls.optim.groups import Finetune, parameter_groups
from product_cls.optim.schedules import cosine
from product_cls.tasks import build_task
from product_cls.training.module import ProductModule

BACKBONES = {
    "tiny": "test_efficientnet",
    "lite0": "tf_efficientnet_lite0",
    "b0": "efficientnet_b0",
    "b1": "efficientnet_b1",
    "b2": "efficientnet_b2",
    "nfnet_f0": "dm_nfnet_f0",
}


@dataclass
class Arguments:
    """One batch in memory, repeated, with the same network, optimiser and schedule on both sides.

    Runs of `steps` steps take turns; the first tenth of each is not counted. precision: 32-true,
    bf16-mixed.
    """

    model: str = "lite0"
    size: int = 96
    batch: int = 32
    classes: int = 1000
    steps: int = 20
    repeats: int = 5
    precision: str = "32-true"
    out: str | None = None


class SameBatch(IterableDataset[dict[str, Any]]):
    """A batch as loaders yield it, ``steps`` times."""

    def __init__(self, batch: dict[str, Any], steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([self.batch] * self.steps)


class Clock(pl.Callback):
    """Records when each step ended; the GPU is synchronised where counting begins and ends."""

    def __init__(self, skipped: int, steps: int) -> None:
        self.skipped, self.steps = skipped, steps

    def on_train_batch_end(self, *_: Any) -> None:
        self.skipped -= 1
        self.steps -= 1
        if self.skipped == 0:
            self.started = _now()
        if self.steps == 0:
            self.seconds = _now() - self.started


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def build(arguments: Arguments) -> ProductModule:
    """A network as in a run, with random weights."""
    torch.manual_seed(0)
    names = [str(k) for k in range(arguments.classes)]
    task = build_task({"name": "single_label", "label": "label", "classes": names})
    network = Network(
        BACKBONES[arguments.model], task.head, weights="none", drop_rate=0.2, channels_last=True
    )
    return ProductModule(
        network,
        task,
        optimizer=lambda groups: AdamP(groups, lr=1e-3, weight_decay=1e-2),
        scheduler=cosine,
        lr=1e-3,
        weight_decay=1e-2,
        finetune=Finetune(),
        mix=None,
        seed=0,
        image={"size": [arguments.size] * 2, "fit": "squash"},
    )


def by_lightning(batch: dict[str, Any], arguments: Arguments) -> float:
    """Seconds of the counted steps."""
    clock = Clock(skipped(arguments), arguments.steps)
    trainer = pl.Trainer(
        max_epochs=1,
        precision=arguments.precision,  # type: ignore[arg-type]
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(SameBatch(batch, arguments.steps), batch_size=None)
    trainer.fit(build(arguments), loader)
    return clock.seconds


def by_hand(batch: dict[str, Any], arguments: Arguments) -> float:
    """The same steps without Lightning."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = build(arguments)
    network, task = module.network.to(device).train(), module.task
    optimizer = AdamP(parameter_groups(network, 1e-2, 1e-3), lr=1e-3, weight_decay=1e-2)
    scheduler = cosine(optimizer, arguments.steps)
    bf16 = arguments.precision.startswith("bf16")
    for step in range(arguments.steps):
        images, target = (batch[key].to(device, non_blocking=True) for key in ("image", "target"))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = task.loss(network(network.prepare(images)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step + 1 == skipped(arguments):
            started = _now()
    return _now() - started


def skipped(arguments: Arguments) -> int:
    """Uncounted steps at the beginning, which allocate buffers."""
    return max(arguments.steps // 10, 1)


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/train_step.py")
    if arguments.model not in BACKBONES:
        raise UserError(f"model={arguments.model}; allowed: {', '.join(BACKBONES)}.")
    if arguments.steps < 2 or arguments.repeats < 2:
        raise UserError("steps and repeats; allowed: 2 or more.")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    images = torch.from_numpy(waves(arguments.batch, arguments.size).transpose(0, 3, 1, 2).copy())
    target = torch.arange(arguments.batch) % arguments.classes
    batch = {"image": images, "target": target, "index": torch.arange(arguments.batch)}
    turns = [
        (by_hand(batch, arguments), by_lightning(batch, arguments))
        for _ in range(arguments.repeats)
    ]
    counted = (arguments.steps - skipped(arguments)) * arguments.batch
    row = {
        "model": arguments.model,
        "size": arguments.size,
        "batch": arguments.batch,
        "precision": arguments.precision,
        "bare loop /s": counted / median(hand for hand, _ in turns),
        "ProductModule /s": counted / median(ours for _, ours in turns),
        "overhead %": 100 * median(ours / hand - 1 for hand, ours in turns),
    }
    title = "Training steps on one batch in memory, pictures a second"
    report("train_step", [row], title, arguments.out, "pytorch-lightning", "timm")


if __name__ == "__main__":
    guard(main)
