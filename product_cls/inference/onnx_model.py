"""An exported ONNX file as a model that names pictures."""

import hashlib
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

SEAL = b"sha256"  # key of the checksum in the metadata


def open_session(onnxruntime: Any, content: bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU; 0 threads means one per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def sealed(content: bytes) -> bytes:
    """An ONNX file with a checksum at its end, as metadata: ONNX itself has none.

    Protocol buffers may be concatenated, so the end is a model of one property.
    """
    return content + _seal(content)


def check_sealed(content: bytes) -> None:
    """Check the checksum of a file that ``sealed`` made; other files have none.

    Raises:
        ValueError: the file is not as it was written.
    """
    size = len(_seal(b""))
    begin = _seal(b"").partition(SEAL)[0] + SEAL
    if begin in content and content[-size:] != _seal(content[:-size]):
        raise ValueError(
            "its bytes are not those that were written (wrong checksum): it is damaged, or another "
            "program has changed it and kept the entry sha256 of its metadata"
        )


def _seal(content: bytes) -> bytes:
    """A message of the field ``metadata_props`` (14) of a model: key and value, fields 1 and 2."""
    value = f'"{hashlib.sha256(content).hexdigest()}"'.encode()
    entry = b"\x0a" + bytes([len(SEAL)]) + SEAL + b"\x12" + bytes([len(value)]) + value
    return b"\x72" + bytes([len(entry)]) + entry


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
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}.") from None
        try:
            check_sealed(content)
            self.session = open_session(onnxruntime, content)
            properties = self.session.get_modelmeta().custom_metadata_map
            metadata = {key: json.loads(value) for key, value in properties.items()}
            self.task = build_task(metadata["task_spec"])
            self.classes = list(metadata["classes"])
            self.shape = self._checked_shape(metadata["size"], metadata["fit"])
            self._check_outputs()
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise UserError(
                f"{file} is not an ONNX file that product_cls exported: {reason(error)}."
            ) from None
        self.file = file
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.how = "the scores of an ONNX file"
        if self.task.needs_gallery:
            self.how = "the softmax of the head in an ONNX file, not by neighbours"

    def _checked_shape(self, size: Any, fit: Any) -> Shape:
        """The shape that the metadata name, if the graph takes it; raises ValueError otherwise."""
        height, width = size
        check_shape((height, width), fit)
        taken = {each.name: list(each.shape[1:]) for each in self.session.get_inputs()}
        if taken != {"image": [3, height, width]}:
            raise ValueError(f"its metadata say size={size}, but it takes {taken}")
        return (height, width), fit

    def _check_outputs(self) -> None:
        """Check that the graph gives a score for each class; raises ValueError otherwise."""
        if self.classes != list(self.task.classes):
            raise ValueError("its metadata name two lists of classes")
        given = {each.name: list(each.shape[1:]) for each in self.session.get_outputs()}
        (width,) = given["scores"]
        if isinstance(width, int) and width != len(self.classes):  # a name: known when it runs
            raise ValueError(f"its metadata name {len(self.classes)} classes, but it gives {given}")

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
