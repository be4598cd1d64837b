"""An epoch of training from JPEG files: ours against timm's training script.

    python benchmarks/timm_script.py models=[tiny,lite0] size=96 batch=32 workers=1      # a CPU
    python benchmarks/timm_script.py models=[b0] size=256 batch=128 workers=8 pictures=12800 \
precision=bf16-mixed

prints a table and writes benchmarks/results/timm_script.json. ``--help`` lists the settings.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import timm
import torch
from common import ratio, report
from loading import CLASSES, write_pictures
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter
from train_step import BACKBONES

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.augment import Augment, Engine
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.readers import read_folder
from product_cls.data.store import build_store
from product_cls.models.network import Network
from product_cls.optim.groups import Finetune
from product_cls.optim.schedules import cosine
from product_cls.tasks import build_task
from product_cls.training.module import ProductModule
from product_cls.training.run import quiet_libraries

# timm's defaults, drawn by albumentations. timm does not change the hue either.
STEPS = {
    "random_resized_crop": {
        "transform": "RandomResizedCrop",
        "scale": [0.08, 1.0],
        "ratio": [3 / 4, 4 / 3],
        "p": 1.0,
    },
    "horizontal_flip": {"transform": "HorizontalFlip", "p": 0.5},
    "color_jitter": {
        "transform": "ColorJitter",
        "brightness": [0.6, 1.4],
        "contrast": [0.6, 1.4],
        "saturation": [0.6, 1.4],
        "hue": [0.0, 0.0],
        "p": 1.0,
    },
}
RATE, DECAY, SMOOTHING = 1e-3, 1e-2, 0.1
LOG_INTERVAL = 50  # batches, timm's default


@dataclass
class Arguments:
    """Pictures per second of the epochs after the first, from the same JPEG files.

    timm: its loader, networks, optimiser, schedule and loss in the loop of its train.py, which the
    package does not contain: forward, backward and step, meters, and the loss read at the logging
    interval only, which favours a GPU. It decodes each file in each epoch and crops from the whole
    picture. ours: ProductModule and the store, which is built beforehand and holds pictures at
    `size`; crops come from these. Both: random crop and resize, flip, colour jitter, AdamW, label
    smoothing and the same precision. timm runs with and without channels-last, ours always with.
    Runs of `epochs` epochs take turns; the first epoch of each is not counted.

    pictures, source: number of JPEG files, and their pixels per side. folder: keeps them, to run
    timm's own script on them (docs/benchmarks.md); null means nowhere. precision: 32-true,
    bf16-mixed.
    """

    models: list[str] = field(default_factory=lambda: ["tiny", "lite0"])
    pictures: int = 256
    source: int = 256
    size: int = 96
    batch: int = 32
    workers: int = 1
    epochs: int = 3
    repeats: int = 3
    precision: str = "32-true"
    folder: str | None = None
    out: str | None = None


def pick() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def by_timm(root: Path, model: str, arguments: Arguments, *, channels_last: bool) -> float:
    """Seconds of an epoch after the first."""
    device, bf16 = pick(), arguments.precision.startswith("bf16")
    torch.manual_seed(0)
    network = timm.create_model(BACKBONES[model], num_classes=CLASSES).to(device)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=memory_format)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=RATE, weight_decay=DECAY)
    smoothed = LabelSmoothingCrossEntropy(SMOOTHING).to(device)
    settings = resolve_data_config({"img_size": arguments.size}, model=network)
    loader = create_loader(
        create_dataset("", root=str(root), is_training=True, batch_size=arguments.batch),
        settings["input_size"],
        arguments.batch,
        is_training=True,
        color_jitter=0.4,
        interpolation="random",
        mean=settings["mean"],
        std=settings["std"],
        num_workers=arguments.workers,
        persistent_workers=arguments.workers > 0,
        device=device,
    )
    scheduler, _ = create_scheduler_v2(
        optimizer, num_epochs=arguments.epochs, updates_per_epoch=len(loader)
    )
    ends, losses, waited = [], AverageMeter(), AverageMeter()
    for epoch in range(arguments.epochs):
        network.train()
        asked = time.time()
        for step, (images, target) in enumerate(loader):
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            waited.update(time.time() - asked)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = smoothed(network(images), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step % LOG_INTERVAL == 0:
                losses.update(loss.item(), len(images))
            scheduler.step_update(epoch * len(loader) + step + 1, metric=losses.avg)
            asked = time.time()
        scheduler.step(epoch + 1)
        ends.append(clock())
    return _mean_epoch(ends)


class Epochs(pl.Callback):
    """Records when the last step of each epoch ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_end(self, *_: Any) -> None:
        self.ends.append(clock())


def by_us(root: Path, cache: Path, model: str, arguments: Arguments, engine: Engine) -> float:
    """Seconds of an epoch after the first."""
    torch.manual_seed(0)
    samples = read_folder(root)
    size = (arguments.size, arguments.size)
    steps = {name: dict(step) for name, step in STEPS.items()}
    steps["random_resized_crop"]["size"] = list(size)
    task = build_task({"name": "single_label", "label": "label", "classes": []})
    task.fit(samples)
    data = ProductDataModule(
        samples,
        build_store(samples, cache, size),
        task.encode(samples),
        train_ids=samples["id"].to_numpy(),
        val_ids=np.array([], dtype=object),
        batch_size=arguments.batch,
        augment=Augment(steps, engine=engine),
        num_workers=arguments.workers,
        pin_memory=torch.cuda.is_available(),
    )
    task.class_loss.label_smoothing = SMOOTHING
    module = ProductModule(
        Network(BACKBONES[model], task.head, weights="none", channels_last=True),
        task,
        optimizer=partial(torch.optim.AdamW, lr=RATE, weight_decay=DECAY),
        scheduler=cosine,
        lr=RATE,
        weight_decay=DECAY,
        finetune=Finetune(),
        mix=None,
        seed=0,
        image={"size": list(size), "fit": "squash"},
    )
    epochs = Epochs()
    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        precision=arguments.precision,  # type: ignore[arg-type]
        callbacks=[epochs],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data.train_dataloader())
    return _mean_epoch(epochs.ends)


def _mean_epoch(ends: list[float]) -> float:
    """Mean seconds per epoch from the end of the first epoch on, so that epoch starts count."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def measure(root: Path, cache: Path, model: str, arguments: Arguments) -> list[dict[str, Any]]:
    """One row for each candidate: pictures per second, and the ratio to the faster timm mode."""
    ways: dict[str, Callable[[], float]] = {
        "timm": lambda: by_timm(root, model, arguments, channels_last=False),
        "timm, channels last": lambda: by_timm(root, model, arguments, channels_last=True),
        "ours, exact": lambda: by_us(root, cache, model, arguments, "exact"),
        "ours, fast": lambda: by_us(root, cache, model, arguments, "fast"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    best = min(list(ways)[:2], key=lambda name: median(seconds[name]))
    return [
        {
            "model": model,
            "way": name,
            "pictures /s": arguments.pictures / median(found),
            "against": best if name.startswith("ours") else None,
            **(ratio(seconds, best, name) if name.startswith("ours") else {}),
        }
        for name, found in seconds.items()
    ]


def check(arguments: Arguments) -> None:
    """Raises:
    UserError: an invalid value.
    """
    if unknown := [model for model in arguments.models if model not in BACKBONES]:
        raise UserError(f"models has '{unknown[0]}'; allowed: {', '.join(BACKBONES)}.")
    if arguments.pictures % arguments.batch or arguments.pictures < 2 * CLASSES:
        raise UserError(
            f"pictures={arguments.pictures} with batch={arguments.batch}; allowed: whole batches, "
            f"for timm leaves out the rest, and {2 * CLASSES} or more."
        )
    if arguments.epochs < 2 or arguments.repeats < 2:
        raise UserError("epochs and repeats; allowed: 2 or more.")


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/timm_script.py")
    check(arguments)
    quiet_libraries()
    cv2.setNumThreads(0)  # as in loader workers, for both
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(arguments.folder or scratch) / "train"
        write_pictures(root, arguments.pictures, arguments.source)
        rows = []
        for model in arguments.models:
            rows += measure(root, Path(scratch) / "store", model, arguments)
    title = (
        f"Training on {arguments.pictures} JPEG files of {arguments.source} px at "
        f"{arguments.size} px, batches of {arguments.batch}, {arguments.precision}"
    )
    report("timm_script", rows, title, arguments.out, "timm", "pytorch-lightning", "albumentations")


if __name__ == "__main__":
    guard(main)
