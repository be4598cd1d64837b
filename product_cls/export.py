"""Export a checkpoint as an ONNX file that names the products in raw pictures.

python -m product_cls.export checkpoint=RUN/checkpoints/best.ckpt out=model.onnx

The file takes ``image``, uint8 ``[B, 3, H, W]`` in RGB, of any batch size, and returns ``scores``,
float32 ``[B, C]``; for a retrieval network also ``embedding``, float32 ``[B, D]``, L2-normalised.
It normalises the pixels itself. Its metadata say how pictures must be resized to H x W beforehand.
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import check_place


@dataclass
class Arguments:
    """Export a checkpoint to ONNX: uint8 pictures in, scores (and embeddings) out.

    checkpoint: a run's checkpoint, RUN/checkpoints/best.ckpt.
    out: the file to write, ending in .onnx.
    """

    checkpoint: str = MISSING
    out: str = "model.onnx"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.export")
    out, checkpoint = Path(arguments.out), Path(arguments.checkpoint)
    if out.suffix != ".onnx":
        raise UserError(f"out={out}; allowed: a file that ends in .onnx.")
    check_place(out.parent)
    if not checkpoint.is_file():
        raise UserError(f"There is no checkpoint {checkpoint}.")

    # Imported here, so that --help and errors do not wait seconds for torch.
    from product_cls.inference.onnx_export import export_onnx
    from product_cls.inference.predictor import Predictor

    predictor = Predictor.load(checkpoint)
    difference = export_onnx(predictor, out)
    height, width = predictor.size
    print(
        f"{out}: {predictor.task.name}, {len(predictor.task.classes)} classes, uint8 pictures "
        f"[B, 3, {height}, {width}]; largest difference from PyTorch {difference:.1g}"
    )


if __name__ == "__main__":
    guard(main)
