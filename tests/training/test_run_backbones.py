"""Runs of several families of networks: trained, resumed, predicted, exported, searched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs_in_process import RETRIEVAL, train, train_interrupted, weights

from product_cls.data.pictures import load_picture, resize
from product_cls.export import main as export_main
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.predict import main as predict_main
from product_cls.retrieval.gallery import Gallery

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]

FAMILIES = {
    "vit": ("model=tiny_vit",),
    "registers": ("model.backbone=test_vit2", "model.weights=none", "model.pooling=gem"),
    "fixed size": ("model.backbone=test_vit_relpos", "model.weights=none"),
    "convnext": ("model.backbone=test_convnext", "model.weights=none"),
    "byobnet": ("model.backbone=test_byobnet", "model.weights=none", "model.pooling=gem"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_resumes_predicts_and_exports(
    family: str, tmp_path: Path, tiny_root: Path, run_command: Command
) -> None:
    words = (*FAMILIES[family], "trainer.max_epochs=2", "finetune.layer_decay=0.8")
    whole = train(tmp_path / "whole", tiny_root, *words)
    resumed = train_interrupted(tmp_path / "resumed", tiny_root, *words, epoch=1)
    for name, value in weights(whole).items():
        assert value.equal(weights(resumed)[name]), name
    status, _, errors = run_command(predict_main)(
        f"checkpoint={whole.best_checkpoint}",
        f"images={tiny_root / 'test'}",
        f"out={tmp_path / 'predicted'}",
        "tta=[identity,hflip]",
        "top=4",
    )
    assert (status, errors) == (0, "")
    table = pd.read_csv(tmp_path / "predicted" / "predictions.csv").set_index("image")
    predictions = Predictions.load(whole.predictions_file("test"))
    names = [name.removeprefix("test/") for name in predictions.id.tolist()]
    best = np.sort(predictions.scores, axis=1)[:, ::-1]
    np.testing.assert_allclose(table.loc[names, "score_1"], best[:, 0], atol=2e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    export = run_command(export_main)
    status, _, errors = export(f"checkpoint={whole.best_checkpoint}", f"out={file}")
    assert (status, errors) == (0, "")
    predictor = Predictor.load(whole.best_checkpoint)
    files = [tiny_root / "test" / f"{n}.jpg" for n in (0, 1)]
    pictures = np.stack([resize(load_picture(f), predictor.size, predictor.fit) for f in files])
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        network = predictor.network
        expected = predictor.task.scores(network(network.prepare(batch)))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


def test_a_transformer_serves_retrieval(tmp_path: Path, tiny_root: Path) -> None:
    words = [word for word in RETRIEVAL if not word.startswith("model.pooling")]
    run = train(tmp_path / "run", tiny_root, "model=tiny_vit", *words)
    gallery = Gallery.load(run.predictions_file("gallery"))
    assert gallery.embedding.shape == (40, 16)
    assert "accuracy" in run.metrics()["test"]
