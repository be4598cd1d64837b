"""Pictures per second of predictions with test-time augmentation, from memory and from files.

    python benchmarks/predict.py                                              # lite0 at 96 pixels
    python benchmarks/predict.py checkpoint=RUN/checkpoints/best.ckpt "views=[[identity],[hflip]]"
    python benchmarks/predict.py backbone=efficientnet_b0 size=256 device=cuda bf16=true

prints a table and writes benchmarks/results/predict.json. ``--help`` lists the settings.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import paired_seconds, ratio, report
from inference import load
from loading import write_pictures

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.data.incoming import decoded_batches, list_images
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_scores
from product_cls.inference.tta import build_views, check_views


@dataclass
class Arguments:
    """The work of `product-cls predict` on a folder, without its CSV and contact sheet.

    memory: pictures decoded beforehand. files: JPEG files of `source` pixels per side, decoded by
    threads while the network runs. views: sets of averaged views, with the number of passes through
    the network. Ratios are relative to the first set, files to files.

    checkpoint: of a run; null means a network of `backbone` at `size` pixels with random weights.
    threads: of PyTorch. device: auto, cpu, cuda.
    """

    checkpoint: str | None = None
    backbone: str = "tf_efficientnet_lite0"
    size: int = 96
    classes: int = 1000
    views: list[list[str]] = field(
        default_factory=lambda: [
            ["identity"],
            ["identity", "hflip"],
            ["identity", "hflip", "size_128", "hflip+size_128"],
            ["identity", "hflip", "five_crop"],
        ]
    )
    pictures: int = 128
    source: int = 256
    batch: int = 64
    device: str = "auto"
    bf16: bool = False
    threads: int = 1
    repeats: int = 5
    out: str | None = None


def measure(
    predictor: Predictor, images: list[tuple[str, Path]], arguments: Arguments
) -> list[dict[str, Any]]:
    """One row for each set of views; all sets, from memory and from files, take turns."""
    device = pick_device(arguments.device)
    shape = (predictor.size, predictor.fit)

    def from_files() -> Iterator[dict[str, Any]]:
        batches = decoded_batches(
            lambda number: load_picture(images[number][1]),
            len(images),
            {shape},
            arguments.batch,
            lambda number, why: None,
        )
        for numbers, pictures in batches:
            yield {"image": pictures[shape], "index": np.array(numbers)}

    decoded = list(from_files())

    def scored(views: list[str], batches: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: predict_scores(
            predictor.network,
            predictor.task,
            batches(),
            views,
            device=device,
            bf16=arguments.bf16,
        )

    ways: dict[str, Callable[[], Any]] = {}
    for views in arguments.views:
        ways[f"memory {views}"] = scored(views, lambda: decoded)
        ways[f"files {views}"] = scored(views, from_files)
    seconds = paired_seconds(ways, arguments.repeats, device=device)
    first = f"files {arguments.views[0]}"
    one = torch.zeros(1, 3, *predictor.size)
    return [
        {
            "views": " ".join(views),
            "passes": sum(len(view(one)) for view in build_views(views).values()),
            **{
                f"{source} /s": len(images) / median(seconds[f"{source} {views}"])
                for source in ("memory", "files")
            },
            **ratio(seconds, first, f"files {views}"),
        }
        for views in arguments.views
    ]


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/predict.py")
    for key, least in (("pictures", 10), ("batch", 1), ("threads", 1), ("repeats", 2)):
        if getattr(arguments, key) < least:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: {least} or more.")
    torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    predictor = load(arguments)
    predictor.network.memory_format = torch.channels_last  # as in training
    for views in arguments.views:
        check_views(views, predictor.size)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), arguments.pictures, arguments.source)
        rows = measure(predictor, list_images(Path(folder)), arguments)
    backbone = predictor.network.spec["backbone"]
    title = f"{backbone} at {predictor.size} on {device}, pictures a second with views averaged"
    report("predict", rows, title, arguments.out, "timm", "pillow")


if __name__ == "__main__":
    guard(main)
