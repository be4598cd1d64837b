"""An exported ONNX file as a model that names pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.data.incoming import Shape
from product_cls.data.pictures import check_shape
from product_cls.inference.systems import PictureBatch, PictureModel
from product_cls.tasks import build_task


def open_session(onnxruntime: Any, content: bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU; 0 threads means one per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxModel(PictureModel):
    """A file that ``product_cls.export`` wrote, run on the CPU without test-time augmentation.

    Raises:
        UserError: ONNX Runtime is not installed, or ``product_cls.export`` did not write the file.
    """

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra(f"{file} needs onnxruntime", "export") from None
        try:
            self.session = open_session(onnxruntime, file.read_bytes())
            properties = self.session.get_modelmeta().custom_metadata_map
            metadata = {key: json.loads(value) for key, value in properties.items()}
            self.task = build_task(metadata["task_spec"])
            self.classes = list(metadata["classes"])
            self.shape = self._checked_shape(metadata["size"], metadata["fit"])
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise UserError(
                f"{file} is not an ONNX file that product_cls exported: {reason(error)}."
            ) from None
        self.file = file
        self.outputs = [output.name for output in self.session.get_outputs()]

    def _checked_shape(self, size: Any, fit: Any) -> Shape:
        """The shape that the metadata name, if the graph takes it; raises ValueError otherwise."""
        height, width = size
        check_shape((height, width), fit)
        taken = {each.name: list(each.shape[1:]) for each in self.session.get_inputs()}
        if taken != {"image": [3, height, width]}:
            raise ValueError(f"its metadata say size={size}, but it takes {taken}")
        return (height, width), fit

    @property
    def shapes(self) -> set[Shape]:
        return {self.shape}

    def score(self, batch: PictureBatch) -> np.ndarray:
        return self._run("scores", batch)

    def embed_batch(self, batch: PictureBatch) -> np.ndarray:
        if "embedding" not in self.outputs:
            raise UserError(
                f"{self.file} gives no embeddings (it is of task={self.task.name}); allowed: an "
                "export of task=retrieval, or the checkpoint it was exported from."
            )
        return self._run("embedding", batch)

    def _run(self, output: str, batch: PictureBatch) -> np.ndarray:
        images = batch.images[self.shape].numpy()
        values: np.ndarray = self.session.run([output], {"image": images})[0]
        return values
