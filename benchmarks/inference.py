"""Pictures a second on the CPU: PyTorch against its ONNX export.

    python benchmarks/inference.py                                            # lite0 at 96 pixels
    python benchmarks/inference.py checkpoint=RUN/checkpoints/best.ckpt batches=[1,32] threads=2

prints a table and writes benchmarks/results/inference.json. Needs the extra `export`.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime
import torch
from common import paired_seconds, ratio, report, waves

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.inference.onnx_export import Scorer, export_onnx
from product_cls.inference.onnx_model import open_session
from product_cls.inference.predictor import Predictor
from product_cls.models.network import Network
from product_cls.tasks import build_task


@dataclass
class Arguments:
    """From uint8 pictures in memory to scores, the two taking turns.

    checkpoint: of a run; null: a network of `backbone` at `size` pixels, with random weights.
    threads: of both. PyTorch also runs with pictures channels-last, as training does.
    """

    checkpoint: str | None = None
    backbone: str = "tf_efficientnet_lite0"
    size: int = 96
    classes: int = 1000
    batches: list[int] = field(default_factory=lambda: [1, 32])
    threads: int = 1
    repeats: int = 15
    out: str | None = None


def load(arguments: Arguments) -> Predictor:
    """What the checkpoint holds, or an untrained network."""
    if arguments.checkpoint is not None:
        return Predictor.load(Path(arguments.checkpoint))
    names = [str(k) for k in range(arguments.classes)]
    task = build_task({"name": "single_label", "label": "label", "classes": names})
    network = Network(arguments.backbone, task.head, weights="none")
    return Predictor(network.eval(), task, (arguments.size, arguments.size), "squash")


def measure(batch: int, predictor: Predictor, session: Any, arguments: Arguments) -> dict[str, Any]:
    """A row: pictures a second each way, and how many times faster ONNX Runtime is."""
    height, width = predictor.size
    pictures = waves(batch, max(height, width))[:, :height, :width]
    images = pictures.transpose(0, 3, 1, 2).copy()
    scorer = Scorer(predictor).eval()

    def by_torch(memory_format: torch.memory_format) -> None:
        predictor.network.memory_format = memory_format
        with torch.inference_mode():
            scorer(torch.from_numpy(images))

    seconds = paired_seconds(
        {
            "torch": lambda: by_torch(torch.contiguous_format),
            "torch, channels last": lambda: by_torch(torch.channels_last),
            "onnx": lambda: session.run(None, {"image": images}),
        },
        arguments.repeats,
    )
    speeds = {f"{name} /s": batch / median(s) for name, s in seconds.items()}
    return {"batch": batch, **speeds, **ratio(seconds, "torch, channels last", "onnx")}


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/inference.py")
    for key in ("threads", "repeats"):
        if getattr(arguments, key) < (2 if key == "repeats" else 1):
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: 1 or more, repeats 2.")
    torch.set_num_threads(arguments.threads)
    predictor = load(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(predictor, file)
        session = open_session(onnxruntime, file.read_bytes(), arguments.threads)
    rows = [measure(batch, predictor, session, arguments) for batch in arguments.batches]
    backbone = predictor.network.spec["backbone"]
    title = f"{backbone} at {predictor.size}, {arguments.threads} threads, pictures a second"
    report("inference", rows, title, arguments.out, "onnxruntime", "timm")


if __name__ == "__main__":
    guard(main)
