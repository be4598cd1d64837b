"""A checkpoint's network as an ONNX file, checked against PyTorch before it is written."""

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
from product_cls.core.files import write_bytes_whole
from product_cls.inference.onnx_model import open_session
from product_cls.inference.predictor import Predictor

OPSET = 17  # since ONNX 1.12 and ONNX Runtime 1.12
TOLERANCE = 1e-4  # largest difference of a score from PyTorch's


class Scorer(nn.Module):
    """Network and task as one: uint8 ``[B, 3, H, W]`` -> scores, and embeddings where there are."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.network, self.task = predictor.network, predictor.task

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(self.network.prepare(images))
        embedding = self.task.embedding(outputs)
        scores = self.task.scores(outputs)
        return (scores,) if embedding is None else (scores, embedding)


def describe(predictor: Predictor) -> dict[str, str]:
    """The file's metadata: what to do to a picture before, and what the scores mean.

    Values are JSON, which is all that ONNX metadata hold.
    """
    spec, task = predictor.network.spec, predictor.task
    described = {
        "task": task.name,
        "classes": list(task.classes),  # in the order of the scores
        "task_spec": task.spec(),  # heads and thresholds, where there are
        "size": list(predictor.size),  # height, width
        "fit": predictor.fit,  # squash: to the size; crop, pad: keeping the aspect ratio
        "channels": "RGB",
        "layout": "NCHW, uint8",
        "mean": spec["mean"],  # of 1; normalisation by these is inside
        "std": spec["std"],
        "normalised_inside": True,
        "backbone": spec["backbone"],
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in described.items()}


def export_onnx(predictor: Predictor, out: Path) -> float:
    """Write the file once ONNX Runtime gives what PyTorch does.

    Args:
        predictor: on the CPU, in evaluation mode.
        out: where to.

    Returns:
        The largest difference between the two, over batches of one and three random pictures.

    Raises:
        UserError: the packages are missing, the network has an operation that ONNX has not, or the
            results differ by more than ``TOLERANCE``.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"Exporting needs onnx and onnxruntime, and {error.name} is not installed: "
            f"pip install onnx onnxruntime."
        ) from None
    scorer = Scorer(predictor).eval()
    names = ["scores", "embedding"]
    trial = torch.zeros(2, 3, *predictor.size, dtype=torch.uint8)
    with torch.inference_mode():
        names = names[: len(scorer(trial))]
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter by tracing needs no further package; of its successor it warns, and of
            # shapes that become constants, which those of a picture are meant to.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                scorer,
                (trial,),
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
    """Between what a session and PyTorch make of random pictures, alone and three at once."""
    draw = np.random.default_rng(0)
    found = []
    for count in (1, 3):
        images = draw.integers(0, 256, (count, 3, *size), dtype=np.uint8)
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
            found.append(float(np.abs(got - tensor.numpy()).max()))
    return max(found)
