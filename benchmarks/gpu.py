"""End to end on a GPU: the share of the network's own speed that remains with loader, mixing and
Lightning.

    python benchmarks/gpu.py                                   # B0, B1, B2 and NFNet F0 at 256 px
    python benchmarks/gpu.py models=[b1] workers=[16] compile=true
    python benchmarks/gpu.py models=[tiny] size=32 pictures=64 files=20 batch=8 workers=[0,1]

(the last on a CPU) prints a table and writes benchmarks/results/gpu.json. ``--help`` lists the
settings.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from common import report
from loading import CONF, write_pictures
from timm_script import Epochs, clock, pick
from train_step import BACKBONES

from product_cls.config.values import trainer_precision
from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.augment import Augment, Engine
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.image_store import ImageStore
from product_cls.data.mix import Mix
from product_cls.data.readers import read_folder
from product_cls.data.store import build_store
from product_cls.models.network import Network
from product_cls.optim.adamp import AdamP
from product_cls.optim.groups import Finetune, parameter_groups
from product_cls.optim.schedules import cosine
from product_cls.tasks import build_task
from product_cls.training.module import ProductModule
from product_cls.training.run import quiet_libraries

SIZE = 256  # recipe A's, the default on a GPU
TARGET = 0.95  # relative to the speed of the fixed batch


@dataclass
class Arguments:
    """Training epochs from the store, against the same network on one batch in GPU memory.

    fixed batch: forward, backward and step in a bare loop, without loader, augmentation, mixing or
    Lightning, with the fastest kernels. epochs: recipe A's augmentation and mixing on every batch,
    ProductModule in a Trainer; all epochs but the first, measured end to end. The two take turns.
    share: relative to the speed of the fixed batch (target: 0.95). epoch s: for `pictures` pictures
    (38,400 are the published epoch, 172 s for B1 on an RTX 2080 Ti). GPU %: utilisation reported by
    nvidia-smi. A line after the table says how few workers reach the target.

    size: null means 256, on a GPU. files: distinct JPEG files; an epoch repeats them. workers:
    loader processes, a row for each number. engine: exact or fast augmentation. precision: auto
    (bf16-mixed where the GPU supports it), 32-true, bf16-mixed. deterministic: as far as kernels
    allow, as in conf/trainer/default.yaml.
    """

    models: list[str] = field(default_factory=lambda: ["b0", "b1", "b2", "nfnet_f0"])
    size: int | None = None
    batch: int = 128
    pictures: int = 38400
    files: int = 2048
    classes: int = 1000
    workers: list[int] = field(default_factory=lambda: [4, 8, 16])
    engine: str = "fast"
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True
    epochs: int = 2
    repeats: int = 2
    out: str | None = None


class Utilisation:
    """Share of the time in which the GPU was busy, sampled by nvidia-smi; None without it."""

    def __enter__(self) -> "Utilisation":
        tool = shutil.which("nvidia-smi") if torch.cuda.is_available() else None
        words = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self.watch: subprocess.Popen[str] | None = None
        if tool is not None:
            gpu = str(torch.cuda.get_device_properties(0).uuid)  # its index may be renumbered
            gpu = gpu if gpu.startswith(("GPU-", "MIG-")) else f"GPU-{gpu}"
            self.watch = subprocess.Popen(
                [tool, "-i", gpu, *words], stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.percent = None
        if self.watch is not None:
            self.watch.terminate()
            said = self.watch.communicate()[0].split()
            found = [float(word) for word in said if word.isdecimal()]
            self.percent = mean(found) if found else None


class Watched(Epochs):
    """Samples GPU utilisation from the end of the first epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.utilisation = Utilisation()

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_epoch_end()
        if len(self.ends) == 1:
            self.utilisation.__enter__()
        if len(self.ends) == trainer.max_epochs:
            self.utilisation.__exit__()


def build(model: str, size: int, arguments: Arguments) -> ProductModule:
    """Recipe A's module with random weights."""
    torch.manual_seed(0)
    names = [str(k) for k in range(arguments.classes)]
    task = build_task({"name": "single_label", "label": "label", "classes": names})
    network = Network(
        BACKBONES[model],
        task.head,
        weights="none",
        drop_rate=0.2,
        channels_last=arguments.channels_last,
    )
    if arguments.compile:
        network.compile()  # as model.compile=true does
    return ProductModule(
        network,
        task,
        optimizer=partial(AdamP, lr=1e-3, weight_decay=1e-2),
        scheduler=cosine,
        lr=1e-3,
        weight_decay=1e-2,
        finetune=Finetune(),
        mix=Mix(mixup=1.0, cutmix=1.0, p=1.0),
        seed=0,
        image={"size": [size, size], "fit": "squash"},
    )


def on_fixed_batch(model: str, size: int, arguments: Arguments) -> float:
    """Pictures per second over the steps of an epoch, 200 at most."""
    torch.use_deterministic_algorithms(False)  # an earlier Trainer has turned it on
    torch.backends.cudnn.benchmark = True
    device, module = pick(), build(model, size, arguments)
    network, task = module.network.to(device).train(), module.task
    optimizer = AdamP(parameter_groups(network, 1e-2, 1e-3), lr=1e-3, weight_decay=1e-2)
    images = torch.randint(256, (arguments.batch, 3, size, size), dtype=torch.uint8, device=device)
    images = network.prepare(images)
    target = torch.arange(arguments.batch, device=device) % arguments.classes
    bf16 = precision_of(arguments).startswith("bf16")

    def steps(count: int) -> float:
        started = clock()
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = task.loss(network(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return clock() - started

    counted = min(200, arguments.pictures // arguments.batch)
    steps(max(2, counted // 10))
    return counted * arguments.batch / steps(counted)


def end_to_end(
    model: str, store: ImageStore, samples: Any, workers: int, arguments: Arguments
) -> tuple[float, float | None]:
    """Pictures per second of the epochs after the first, and GPU utilisation during them."""
    size = store.pixels.shape[1]
    ids = samples["id"].to_numpy()
    steps = yaml.safe_load((CONF / "product.yaml").read_text())
    engine: Engine = "fast" if arguments.engine == "fast" else "exact"
    data = ProductDataModule(
        samples,
        store,
        np.arange(len(samples)) % arguments.classes,
        train_ids=np.resize(ids, arguments.pictures),
        val_ids=np.array([], dtype=object),
        batch_size=arguments.batch,
        augment=Augment(steps, engine=engine),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    epochs = Watched()
    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        precision=precision_of(arguments),  # type: ignore[arg-type]
        deterministic="warn" if arguments.deterministic else False,
        benchmark=not arguments.deterministic,
        callbacks=[epochs],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(build(model, size, arguments), data.train_dataloader())
    seconds = (epochs.ends[-1] - epochs.ends[0]) / (arguments.epochs - 1)
    return arguments.pictures / seconds, epochs.utilisation.percent


def precision_of(arguments: Arguments) -> str:
    return trainer_precision({"precision": arguments.precision, "accelerator": "auto"})


def measure(
    model: str, store: ImageStore, samples: Any, arguments: Arguments
) -> list[dict[str, Any]]:
    """One row for each number of workers."""
    size = store.pixels.shape[1]
    fixed: list[float] = []
    found: dict[int, list[tuple[float, float | None]]] = {w: [] for w in arguments.workers}
    for _ in range(arguments.repeats):
        fixed.append(on_fixed_batch(model, size, arguments))
        for workers in arguments.workers:
            found[workers].append(end_to_end(model, store, samples, workers, arguments))
    rows = []
    for workers, turns in found.items():
        speed = median(speed for speed, _ in turns)
        busy = [percent for _, percent in turns if percent is not None]
        rows.append(
            {
                "model": model,
                "workers": workers,
                "precision": precision_of(arguments),
                "fixed batch /s": median(fixed),
                "epochs /s": speed,
                "share": median(one / best for (one, _), best in zip(turns, fixed, strict=True)),
                "epoch s": arguments.pictures / speed,
                "GPU %": mean(busy) if busy else None,
            }
        )
    return rows


def workers_needed(model: str, rows: list[dict[str, Any]]) -> str:
    """A sentence with the smallest number of workers that reach the target."""
    enough = [row["workers"] for row in rows if row["model"] == model and row["share"] >= TARGET]
    if not enough:
        tried = ", ".join(str(row["workers"]) for row in rows if row["model"] == model)
        return (
            f"{model}: {TARGET:.0%} of the fixed batch's speed is not reached (workers: {tried})."
        )
    return f"{model}: {min(enough)} workers reach {TARGET:.0%} of the fixed batch's speed."


def check(arguments: Arguments) -> int:
    """The picture size in pixels.

    Raises:
        UserError: no GPU and no size, or an invalid value.
    """
    if arguments.size is None and not torch.cuda.is_available():
        raise UserError(
            "There is no GPU here, and B0 at 256 pixels would take hours without; a small size "
            "tries it on the CPU: models=[tiny] size=32 pictures=64 files=20 batch=8 workers=[0]."
        )
    if unknown := [model for model in arguments.models if model not in BACKBONES]:
        raise UserError(f"models has '{unknown[0]}'; allowed: {', '.join(BACKBONES)}.")
    if arguments.engine not in ("exact", "fast"):
        raise UserError(f"engine={arguments.engine}; allowed: exact, fast.")
    for key, least in (("files", 20), ("epochs", 2), ("repeats", 1), ("batch", 2)):
        if getattr(arguments, key) < least:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: {least} or more.")
    if arguments.pictures < 2 * arguments.batch:
        raise UserError(f"pictures={arguments.pictures}; allowed: two batches or more.")
    return arguments.size or SIZE


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/gpu.py")
    size = check(arguments)
    quiet_libraries()
    cv2.setNumThreads(0)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures", arguments.files, size)
        samples = read_folder(Path(folder) / "pictures")
        store = build_store(samples, Path(folder) / "store", (size, size))
        for model in arguments.models:
            rows += measure(model, store, samples, arguments)
    title = f"{pick()}: {arguments.pictures} pictures an epoch at {size} px"
    report("gpu", rows, title, arguments.out, "pytorch-lightning", "timm", "albumentations")
    for model in arguments.models:
        print(workers_needed(model, rows))


if __name__ == "__main__":
    guard(main)
