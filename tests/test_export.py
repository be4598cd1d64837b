"""Exported ONNX files: the scores of the checkpoint, and metadata on preprocessing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from product_cls.data.pictures import load_picture, resize
from product_cls.export import main
from product_cls.inference.predictor import Predictor
from product_cls.models.network import Network
from product_cls.tasks import build_task

NAMES = ["a", "b", "ㄱ"]
TASKS: dict[str, dict[str, Any]] = {
    "single_label": {"name": "single_label", "label": "label", "classes": NAMES},
    "multi_label": {"name": "multi_label", "labels": NAMES, "thresholds": [0.3, 0.5, 0.6]},
    "multi_head": {
        "name": "multi_head",
        "heads": {
            "shape": {"column": "shape", "classes": ["box", "can"]},
            "size": {"column": "size", "classes": NAMES},
        },
    },
    "retrieval": {"name": "retrieval", "label": "label", "classes": NAMES, "embedding": 16},
}
Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]


def checkpoint(file: Path, task: dict[str, Any]) -> Path:
    """Of a network as it would be before its first step, for pictures of 40 x 32."""
    network = Network("test_efficientnet", build_task(task).head, weights="none", pooling="gem")
    described = {
        "network": network.spec,
        "task": task,
        "image": {"size": [40, 32], "fit": "pad"},
    }
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"hyper_parameters": described, "state_dict": state}, file)
    return file


@pytest.mark.parametrize("name", TASKS)
def test_exported_network_gives_pytorchs_scores(
    name: str, tmp_path: Path, tiny_root: Path, run_command: Command
) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    file = checkpoint(tmp_path / "best.ckpt", TASKS[name])
    out = tmp_path / "model.onnx"
    status, output, errors = run_command(main)(f"checkpoint={file}", f"out={out}")
    assert status == 0 and "largest difference" in output, errors

    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    metadata = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata["task"] == name and metadata["channels"] == "RGB"
    # User code that relies on the metadata alone.
    pictures = sorted((tiny_root / "test").glob("*.jpg"))[:5]
    resized = [
        resize(load_picture(path), tuple(metadata["size"]), metadata["fit"]) for path in pictures
    ]
    images = np.stack(resized).transpose(0, 3, 1, 2)
    results = dict(
        zip(
            (o.name for o in session.get_outputs()),
            session.run(None, {"image": images}),
            strict=True,
        )
    )

    predictor = Predictor.load(file)
    assert metadata["classes"] == predictor.task.classes
    with torch.inference_mode():
        batch = torch.stack([predictor.picture(path) for path in pictures])
        outputs = predictor.network(predictor.network.prepare(batch))
        expected = {"scores": predictor.task.scores(outputs)}
        if (embedding := predictor.task.embedding(outputs)) is not None:
            expected["embedding"] = embedding
    assert results.keys() == expected.keys()
    for key, tensor in expected.items():
        assert np.abs(results[key] - tensor.numpy()).max() < 1e-4, key
    assert results["scores"].shape == (5, len(metadata["classes"]))


def test_a_network_that_differs_is_not_written(
    tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    monkeypatch.setattr("product_cls.inference.onnx_export.TOLERANCE", -1.0)
    file = checkpoint(tmp_path / "best.ckpt", TASKS["single_label"])
    out = tmp_path / "model.onnx"
    status, _, errors = run_command(main)(f"checkpoint={file}", f"out={out}")
    assert status == 2 and "nothing is written" in errors and not out.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("checkpoint=none.ckpt",), "There is no checkpoint none.ckpt"),
        (("checkpoint=none.ckpt", "out=model.pt"), "out=model.pt; allowed: a file that ends in"),
        ((), "Missing: checkpoint=..."),
    ],
)
def test_wrong_input_is_one_sentence(
    run_command: Command, words: tuple[str, ...], expected: str
) -> None:
    status, _, errors = run_command(main)(*words)
    assert status == 2 and expected in errors and errors.count("\n") == 1, errors


def test_missing_packages_are_named(
    tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    file = checkpoint(tmp_path / "best.ckpt", TASKS["single_label"])
    status, _, errors = run_command(main)(f"checkpoint={file}", f"out={tmp_path / 'a.onnx'}")
    assert (
        status == 2
        and 'needs onnx, which is not installed: pip install "product-cls[export]"' in errors
    )
