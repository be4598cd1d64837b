"""Export a network to ONNX; the file is compared with PyTorch before it is written."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.core.files import write_bytes_whole
from product_cls.inference.onnx_model import open_session, sealed
from product_cls.inference.predictor import Predictor

OPSET = 17  # since ONNX 1.12 and ONNX Runtime 1.12
TOLERANCE = 1e-4  # largest allowed difference from PyTorch's scores


# How a picture becomes the input, for programs that have only the file. ``data.pictures`` does it.
PREPARATION = {
    "frame": "the first, decoded by Pillow",
    "orientation": "turned upright by the EXIF tag 0x0112",
    "grey": "repeated in three channels; 1 bit: 0 and 255",
    "16 bits": "grey of 16 bits: value / 257, rounded",
    "32 bits": "scaled to 0..255 from the smallest of the ranges 0..1 (float only), 0..255 and "
    "0..65535 that holds all values, otherwise from smallest to largest value; rounded",
    "transparency": "composited on white by PIL.Image.alpha_composite, before resizing",
    "colour": "PIL.Image.convert('RGB')",
    "resize": "each output pixel is the mean of a window around its centre, as wide as the output "
    "pixel, but at least one input pixel: cv2.resize with INTER_AREA for the sides that shrink, "
    "then with INTER_LINEAR for the sides that grow; a side that keeps its length stays as it is",
}
FIT_RULES = {
    "squash": "resize h x w to H x W, whatever the aspect ratio",
    "crop": "cut the middle first: rows = min(max(round(w * H / W), 1), h) from row "
    "(h - rows) // 2, columns = min(max(round(h * W / H), 1), w) from column (w - columns) // 2 "
    "(round: halves to even); then resize to H x W",
    "pad": "scale = min(H / h, W / w); resize to rows = max(round(h * scale), 1) and columns = "
    "max(round(w * scale), 1) (round: halves to even); put it at row (H - rows) // 2 and column "
    "(W - columns) // 2, and repeat its border pixels outwards",
}
VIEWS = (
    "The file scores one view. predict of a checkpoint averages the scores of the picture and of "
    "its mirror image (left and right swapped after resizing), half and half; embeddings are "
    "averaged in the same way and L2-normalised again."
)


class Scorer(nn.Module):
    """Network and task as one module: from uint8 pictures to scores, and embeddings if any."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        # ONNX lacks the interpolation of a transformer's positions.
        self.network, self.task = predictor.network.for_size(predictor.size), predictor.task

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Scores, float32 ``[B, C]``, and embeddings ``[B, D]``, of uint8 ``[B, 3, H, W]``."""
        outputs = self.network(self.network.prepare(images))
        embedding = self.task.embedding(outputs)
        scores = self.task.scores(outputs)
        return (scores,) if embedding is None else (scores, embedding)


def describe(predictor: Predictor) -> dict[str, str]:
    """Metadata of the file: how to prepare a picture and how to read the scores.

    ONNX metadata hold text only, so values are JSON.
    """
    spec, task = predictor.network.spec, predictor.task
    metadata = {
        "task": task.name,
        "classes": list(task.classes),  # in the order of the scores
        "task_spec": task.spec(),  # with heads and thresholds, if any
        "size": list(predictor.size),  # height, width
        "fit": predictor.fit,
        "fit_rule": FIT_RULES[predictor.fit],  # h x w: the upright picture, H x W: size
        "preparation": PREPARATION,
        "channels": "RGB",
        "layout": "NCHW, uint8, 0 to 255",
        "views": VIEWS,
        "mean": spec["mean"],  # in [0, 1]; the network normalises by these itself
        "std": spec["std"],
        "normalised_inside": True,
        "backbone": spec["backbone"],
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}


def export_onnx(predictor: Predictor, out: Path) -> float:
    """Write an ONNX file after checking that ONNX Runtime and PyTorch agree.

    Args:
        predictor: on the CPU, in evaluation mode.
        out: the file to write.

    Returns:
        The largest difference between the two over batches of one and three random pictures.

    Raises:
        UserError: the packages are missing, the network has an operation that ONNX lacks, the
            results differ by more than ``TOLERANCE``, or the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise missing_extra(f"Exporting needs {error.name}", "export") from None
    scorer = Scorer(predictor).eval()
    names = ["scores", "embedding"]
    example = torch.zeros(2, 3, *predictor.size, dtype=torch.uint8)
    with torch.inference_mode():
        names = names[: len(scorer(example))]
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The tracing exporter needs no further package. It warns that it has a successor, and
            # that shapes become constants, as the height and width of pictures should.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                scorer,
                (example,),
                buffer,  # type: ignore[arg-type]
                input_names=["image"],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise UserError(
            f"'{predictor.network.spec['backbone']}' cannot be exported to ONNX: {reason(error)}."
        ) from None
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, describe(predictor))
    content = sealed(model.SerializeToString())
    difference = largest_difference(scorer, open_session(onnxruntime, content), predictor.size)
    if not difference <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime's results differ from PyTorch's by {difference:.1g}, more than "
            f"{TOLERANCE:g}; nothing is written."
        )
    try:
        write_bytes_whole(out, content)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror or error}; free some space or choose "
            f"another place."
        ) from None
    return difference


@torch.inference_mode()
def largest_difference(scorer: Scorer, session: Any, size: tuple[int, int]) -> float:
    """Largest difference between a session and PyTorch, on batches of 1 and 3 random pictures."""
    generator = np.random.default_rng(0)
    differences = []
    for count in (1, 3):
        images = generator.integers(0, 256, (count, 3, *size), dtype=np.uint8)
        expected: Mapping[str, Tensor] = dict(
            zip(
                (o.name for o in session.get_outputs()),
                scorer(torch.from_numpy(images)),
                strict=True,
            )
        )
        for (name, tensor), got in zip(
            expected.items(), session.run(None, {"image": images}), strict=True
        ):
            assert got.shape == tensor.shape, f"{name}: {got.shape} != {tensor.shape}"
            differences.append(float(np.abs(got - tensor.numpy()).max()))
    return max(differences)
