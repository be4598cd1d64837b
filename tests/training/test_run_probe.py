"""Probes as runs: features once, heads that predict, vote, export and start a fine-tuning."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs_in_process import shuffled_labels, train

from product_cls.data.pictures import load_picture, resize
from product_cls.export import main as export_main
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.predict import main as predict_main
from product_cls.training.probe import PictureFeatures

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Backbone and number of pictures of each computation of features."""
    calls: list[tuple[str, int]] = []
    compute = PictureFeatures._compute

    def watched(self: PictureFeatures, network, rows, view):  # type: ignore[no-untyped-def]
        calls.append((network.spec["backbone"], len(rows)))
        return compute(self, network, rows, view)

    monkeypatch.setattr(PictureFeatures, "_compute", watched)
    return calls


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_a_probe_is_a_run_like_any_other(
    classifier: str,
    tmp_path: Path,
    tiny_root: Path,
    run_command: Command,
    computed: list[tuple[str, int]],
) -> None:
    words = ("task=probe", f"task.classifier={classifier}", "tta=[identity,hflip]")
    run = train(tmp_path / "0", tiny_root, *words)
    assert len(computed) == 2 and computed[0] == ("test_efficientnet", 72)  # of two views
    assert run.status()["metric"] == "val/accuracy"
    assert run.status()["value"] == pytest.approx(run.metrics()["val"]["accuracy_no_tta"])
    train(tmp_path / "1", tiny_root, *words, "fold=1")
    assert len(computed) == 2  # the second fold reads the first one's features
    predictions = Predictions.load(run.predictions_file("test"))
    status, _, errors = run_command(predict_main)(
        f"checkpoint={run.best_checkpoint}",
        f"images={tiny_root / 'test'}",
        f"out={tmp_path / 'predicted'}",
        "tta=[identity,hflip]",
        "top=4",
    )
    assert (status, errors) == (0, "")
    table = pd.read_csv(tmp_path / "predicted" / "predictions.csv").set_index("image")
    names = [name.removeprefix("test/") for name in predictions.id.tolist()]
    best = np.sort(predictions.scores, axis=1)[:, ::-1]
    np.testing.assert_allclose(table.loc[names, "score_1"], best[:, 0], atol=2e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    status, _, errors = run_command(export_main)(f"checkpoint={run.best_checkpoint}", f"out={file}")
    assert (status, errors) == (0, "")
    predictor = Predictor.load(run.best_checkpoint)
    files = [tiny_root / "test" / f"{n}.jpg" for n in (0, 1)]
    pictures = np.stack([resize(load_picture(f), predictor.size, predictor.fit) for f in files])
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        expected = predictor.task.scores(predictor.network(predictor.network.prepare(batch)))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


def test_joined_networks_keep_their_features_apart(
    tmp_path: Path, tiny_root: Path, computed: list[tuple[str, int]]
) -> None:
    train(tmp_path / "one", tiny_root, "task=probe", "tta=[identity]")
    words = ("task=probe", "tta=[identity]", "model.joined=[tiny_vit]")
    run = train(tmp_path / "both", tiny_root, *words, "task.views=[identity,hflip]")
    names = [name for name, _ in computed]
    assert names == ["test_efficientnet", "test_vit", "test_efficientnet", "test_vit"]
    predictor = Predictor.load(run.best_checkpoint)
    assert [other.spec["backbone"] for other in predictor.network.joined] == ["test_vit"]
    predictions = Predictions.load(run.predictions_file("test"))
    files = [tiny_root / "test" / f"{name.removeprefix('test/')}" for name in predictions.id]
    batch = torch.stack([predictor.picture(file) for file in files])
    with torch.inference_mode():
        network = predictor.network
        scores = predictor.task.scores(network(network.prepare(batch)))
    np.testing.assert_allclose(predictions.scores, scores.numpy(), atol=2e-4)


def test_fine_tuning_starts_from_a_probe(tmp_path: Path, tiny_root: Path) -> None:
    probe = train(tmp_path / "probe", tiny_root, "task=probe")
    words = (f"start={probe.best_checkpoint}", "optimizer.lr=1e-9", "scheduler.end_lr=0")
    tuned = train(tmp_path / "tuned", tiny_root, *words)
    before = Predictions.load(probe.predictions_file("val"))
    after = Predictions.load(tuned.predictions_file("val"))
    assert after.task["name"] == before.task["name"] == "single_label"
    head = Predictor.load(tuned.best_checkpoint).network.head.weight
    learned = Predictor.load(probe.best_checkpoint).network.head.weight
    torch.testing.assert_close(head, learned, atol=1e-6, rtol=0)


def test_features_know_the_weights(
    tmp_path: Path, tiny_root: Path, computed: list[tuple[str, int]]
) -> None:
    tuned = train(tmp_path / "tuned", tiny_root)
    train(tmp_path / "plain", tiny_root, "task=probe", "tta=[identity]")
    words = ("task=probe", "tta=[identity]", f"model.weights={tuned.best_checkpoint}")
    train(tmp_path / "other", tiny_root, *words)
    assert len(computed) == 2


def test_a_probe_adapts_its_batch_norms(tmp_path: Path, tiny_root: Path) -> None:
    plain = train(tmp_path / "plain", tiny_root, "task=probe")
    adapted = train(tmp_path / "adapted", tiny_root, "task=probe", "adapt=batchnorm")
    unadapted = adapted.metrics()["test"]["unadapted"]
    assert unadapted["accuracy"] == plain.metrics()["test"]["accuracy"]
    before, after = (
        Predictions.load(run.predictions_file("test")).scores for run in (plain, adapted)
    )
    assert not np.allclose(before, after)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("task.classifier=forest",),
            "task.classifier=forest; allowed: logistic, lda, ridge, centroid, knn.",
        ),
        (
            ("task.views=[identity,upside]",),
            "task.views=[identity,upside]; allowed: one or more different views of tta.",
        ),
        (("trainer.devices=2",), "task=probe computes on one device"),
        (("model.joined=[nosuch]",), "nosuch is unknown"),
        (("model.joined=lite1",), "model.joined=lite1; allowed: a list of networks"),
        (("task=single_label", "model.joined=[tiny_vit]"), "allowed: task=probe"),
    ],
)
def test_refused(
    words: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path / "run", tiny_root, "task=probe", *words)
    assert sentence in caplog.text


@pytest.mark.parametrize("words", [("task.classifier=lda",), ("adapt=infomax",)])
def test_no_test_label_is_read(words: tuple[str, ...], tmp_path: Path, tiny_root: Path) -> None:
    other = shuffled_labels(tiny_root, tmp_path / "data")
    run = train(tmp_path / "run", tiny_root, "task=probe", *words)
    again = train(tmp_path / "again", other, "task=probe", *words)
    for split in ("val", "test"):
        one, two = (Predictions.load(r.predictions_file(split)) for r in (run, again))
        assert (one.scores == two.scores).all()
        assert (one.target != two.target).any() == (split == "test")
    first, second = (Predictor.load(r.best_checkpoint).network for r in (run, again))
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name]), name
    assert run.metrics()["test"]["accuracy"] != again.metrics()["test"]["accuracy"]
