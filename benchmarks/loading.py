"""Pictures per second into the network: our store and loader against the usual alternatives.

    python benchmarks/loading.py pictures=2000 size=128 workers=2

prints a table and writes benchmarks/results/loading.json. ``--help`` lists the settings.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from common import report, waves
from PIL import Image
from timm.data import create_dataset, create_loader
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.augment import Augment
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.readers import read_folder
from product_cls.data.store import build_store

CONF = Path(__file__).parents[1] / "conf" / "augment"
CLASSES = 10
EPOCHS = 3  # of each loader; the second and third are timed, with warm workers and caches


@dataclass
class Arguments:
    """Epochs through each loader; batches on the CPU, uint8 or float as the loader yields them.

    timm: its loader on the JPEG files with its default augmentation (random crop and resize, flip,
    colour jitter). ImageFolder: torchvision's, with albumentations' pipeline of `augment`. npy: all
    pictures in one array in memory, with the same pipeline. ours: the store with the exact and the
    fast engine. start: until the first batch of a new loader; ours with an existing store. memory:
    private memory of a worker in MiB, on Linux.
    """

    pictures: int = 2000
    source: int = 256
    size: int = 128
    batch: int = 64
    workers: int = 2
    augment: str = "product"
    out: str | None = None


def write_pictures(root: Path, count: int, side: int) -> None:
    """JPEG files, in one folder per class."""
    for start in range(0, count, 256):
        for k, picture in enumerate(waves(min(256, count - start), side, seed=start), start):
            file = root / f"class{k % CLASSES}" / f"{k}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file, quality=92)


class InMemory(Dataset[tuple[torch.Tensor, int]]):
    """All pictures in one array, as in many scripts."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[np.ndarray], torch.Tensor]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), index % CLASSES


class Transform:
    """Albumentations on an array or a PIL image, with new draws each call; ``[3, H, W]``."""

    def __init__(self, steps: dict[str, Any], size: int) -> None:
        self.augment, self.size, self.count = Augment(steps), size, 0

    def __call__(self, picture: Any) -> torch.Tensor:
        self.count += 1
        pixels = np.asarray(picture)
        if pixels.shape[0] != self.size:
            pixels = cv2.resize(pixels, (self.size, self.size), interpolation=cv2.INTER_AREA)
        pixels = self.augment(pixels, self.count)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def ways(root: Path, cache: Path, arguments: Arguments) -> dict[str, Callable[[], Iterable[Any]]]:
    """Functions that build each loader."""
    size, steps = arguments.size, yaml.safe_load((CONF / f"{arguments.augment}.yaml").read_text())
    common: dict[str, Any] = {
        "batch_size": arguments.batch,
        "num_workers": arguments.workers,
        "persistent_workers": arguments.workers > 0,
    }
    samples = read_folder(root)
    store = build_store(samples, cache / "store", (size, size))
    np.save(cache / "pixels.npy", store.pixels)

    def ours(engine: Any) -> Iterable[Any]:
        data = ProductDataModule(
            samples,
            build_store(samples, cache / "store", (size, size)),
            np.arange(len(samples)) % CLASSES,
            train_ids=samples["id"].to_numpy(),
            val_ids=np.array([], dtype=object),
            batch_size=arguments.batch,
            augment=Augment(steps, engine=engine),
            num_workers=arguments.workers,
        )
        return data.train_dataloader()

    def timms() -> Iterable[Any]:
        return create_loader(
            create_dataset("", root=str(root), is_training=True),
            (3, size, size),
            arguments.batch,
            is_training=True,
            num_workers=arguments.workers,
            use_prefetcher=False,
            persistent_workers=arguments.workers > 0,
            device=torch.device("cpu"),
        )

    def folder() -> Iterable[Any]:
        return DataLoader(ImageFolder(str(root), Transform(steps, size)), shuffle=True, **common)

    def array() -> Iterable[Any]:
        pixels = np.load(cache / "pixels.npy")
        return DataLoader(InMemory(pixels, Transform(steps, size)), shuffle=True, **common)

    return {
        "timm": timms,
        "ImageFolder": folder,
        "npy": array,
        "ours, exact": lambda: ours("exact"),
        "ours, fast": lambda: ours("fast"),
    }


def private_mib(iterator: Any) -> float | None:
    """Mean private memory of the workers in MiB; None without workers or without /proc."""
    found = []
    for worker in getattr(iterator, "_workers", ()):
        file = Path(f"/proc/{worker.pid}/smaps_rollup")
        if file.exists():
            lines = [line.split() for line in file.read_text().splitlines()]
            found.append(sum(int(x[1]) for x in lines if x[0].startswith("Private_")) / 1024)
    return sum(found) / len(found) if found else None


def measure(name: str, make: Callable[[], Iterable[Any]], pictures: int) -> dict[str, Any]:
    """One row: seconds to the first batch, pictures per second of later epochs, memory."""
    cv2.setNumThreads(0)
    started = time.perf_counter()
    loader = make()
    speeds, start, memory = [], 0.0, None
    for epoch in range(EPOCHS):
        begun, iterator = time.perf_counter(), iter(loader)
        next(iterator)
        if epoch == 0:
            start = time.perf_counter() - started
        for _ in iterator:
            pass
        speeds.append(pictures / (time.perf_counter() - begun))
        memory = private_mib(iterator)
    return {
        "way": name,
        "pictures /s": median(speeds[1:]),
        "start s": start,
        "memory MiB": memory,
    }


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/loading.py")
    if arguments.pictures < 2 * max(arguments.batch, CLASSES):
        raise UserError(f"pictures={arguments.pictures}; allowed: two batches or more.")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        write_pictures(root, arguments.pictures, arguments.source)
        made = ways(root, Path(folder), arguments)
        rows = [measure(name, make, arguments.pictures) for name, make in made.items()]
    timm_speed = rows[0]["pictures /s"]
    rows = [row | {"times timm": row["pictures /s"] / timm_speed} for row in rows]
    title = f"{arguments.pictures} pictures to {arguments.size} px, {arguments.workers} workers"
    report("loading", rows, title, arguments.out, "timm", "torchvision", "albumentations")


if __name__ == "__main__":
    guard(main)
