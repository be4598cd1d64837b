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
from product_cls.inference.onnx_model import open_session
from product_cls.inference.predictor import Predictor

OPSET = 17  # since ONNX 1.12 and ONNX Runtime 1.12
TOLERANCE = 1e-4  # largest allowed difference from PyTorch's scores


class Scorer(nn.Module):
    """Network and task as one module: from uint8 pictures to scores, and embeddings if any."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.network, self.task = predictor.network, predictor.task

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
        "fit": predictor.fit,  # squash: ignores the aspect ratio; crop, pad: keep it
        "channels": "RGB",
        "layout": "NCHW, uint8",
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
        UserError: the packages are missing, the network has an operation that ONNX lacks, or the
            results differ by more than ``TOLERANCE``.
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
    content = model.SerializeToString()
    difference = largest_difference(scorer, open_session(onnxruntime, content), predictor.size)
    if not difference <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime's results differ from PyTorch's by {difference:.1g}, more than "
            f"{TOLERANCE:g}; nothing is written."
        )
    write_bytes_whole(out, content)
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
