"""Runs of task=retrieval: their files and their metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs_in_process import RETRIEVAL, ROOT, refusal, train

from product_cls.config.compose import compose_config
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    return train(tmp_path_factory.mktemp("retrieval") / "run", tiny_root, *RETRIEVAL)


def test_the_recipe_is_the_published_one() -> None:
    recipe = (ROOT / "conf" / "experiment" / "retrieval.yaml").read_text()
    command = next(line for line in recipe.splitlines() if "data=competition" in line)
    words = command.partition("experiment=retrieval")[2].split()
    single = [word for word in words if "," not in word]  # swept words are not part of it
    config = compose_config(["experiment=retrieval", *single])
    assert (config.data.size, config.data.batch_size, config.trainer.max_epochs) == (256, 32, 30)
    assert (config.model.pooling, config.model.drop_rate) == ("gem", 0)  # no dropout is published
    assert (config.task.scale, config.task.margin, config.task.weights) == (45, 0.4, "log")
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (2e-3, 0.9, 1e-4)


def test_a_run_leaves_gallery_and_votes(finished: RunFolder, tiny_root: Path) -> None:
    gallery = Gallery.load(finished.predictions_file("gallery"))
    assert len(gallery.id) == 40 and gallery.embedding.shape == (40, 16)
    assert np.allclose(np.linalg.norm(gallery.embedding, axis=1), 1, atol=1e-5)
    assert all(Path(path).is_file() for path in gallery.path)
    for split, count in (("val", 20), ("test", 32)):
        part = Predictions.load(finished.predictions_file(split))
        assert part.embedding is not None and part.embedding.shape == (count, 16)
        assert part.class_scores is not None
        assert np.allclose(part.scores.sum(axis=1), 1, atol=1e-5)
        # The vote by hand: cosines of the five nearest, summed by label.
        others = gallery.without(part.id)
        cosine = part.embedding @ others.embedding.T
        for row in range(count):
            nearest = np.argsort(-cosine[row])[:5]
            votes = np.zeros(4)
            np.add.at(votes, others.target[nearest], np.maximum(cosine[row][nearest], 0))
            assert part.scores[row] == pytest.approx(votes / votes.sum(), abs=1e-4)


def test_validation_pictures_do_not_find_themselves(finished: RunFolder) -> None:
    gallery = Gallery.load(finished.predictions_file("gallery"))
    val = Predictions.load(finished.predictions_file("val"))
    assert np.isin(val.id, gallery.id).all()
    assert not np.isin(val.id, gallery.without(val.id).id).any()


def test_metrics_cover_the_vote_and_the_head(finished: RunFolder) -> None:
    for split in ("val", "test"):
        part = finished.metrics()[split]
        assert {"accuracy", "class_accuracy", "recall@1", "recall@5", "mAP@R"} <= set(part)
        assert part["recall@1"] <= part["recall@5"]
    rows = (finished.path / "logs" / "metrics.csv").read_text().splitlines()
    assert {"val/recall@1", "val/recall@5", "val/mAP@R"} <= set(rows[0].split(","))


@pytest.mark.parametrize(
    ("overrides", "metric", "value"),
    [
        ((), "val/accuracy", "accuracy_no_tta"),
        (("task.gallery_every=2",), "val/class_accuracy", "class_accuracy"),
    ],
)
def test_the_vote_selects_the_best_epoch(
    tmp_path: Path, tiny_root: Path, overrides: tuple[str, ...], metric: str, value: str
) -> None:
    run = train(
        tmp_path / "run",
        tiny_root,
        *RETRIEVAL,
        "trainer.max_epochs=4",
        "optimizer.lr=0.01",
        "tta=[identity]",
        *overrides,
    )
    status = run.status()
    assert status["metric"] == metric
    assert status["value"] == pytest.approx(run.metrics()["val"][value], abs=1e-6)
    curves = pd.read_csv(run.path / "logs" / "metrics.csv")
    assert status["value"] == pytest.approx(curves[metric].max(), abs=1e-6)


def test_a_checkpoint_rebuilds_the_embedding(finished: RunFolder, tiny_root: Path) -> None:
    predictor = Predictor.load(finished.best_checkpoint)
    gallery = Gallery.load(finished.predictions_file("gallery"))
    picture = predictor.picture(Path(str(gallery.path[3])))[None]
    with torch.inference_mode():
        outputs = predictor.network(predictor.network.prepare(picture))
        embedding = predictor.task.embedding(outputs)
    assert embedding is not None
    assert embedding[0].numpy() == pytest.approx(gallery.embedding_no_tta[3], abs=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        ("mix=mixup_cutmix", "mix.p=1", "callbacks=ema"),
        ("task.subcenters=2", "task.margin_range=[0.1,0.4]", "task.margin_warmup=0.5"),
        ("mix=none", "loss=triplet", "data.per_class=4", "task.weights=null"),
        ("mix=none", "loss=triplet", "data.per_class=4", "task.vote.kind=winners"),
        ("fold=all", "task.vote.kind=nearest"),
    ],
)
def test_choices_run(tmp_path: Path, tiny_root: Path, overrides: tuple[str, ...]) -> None:
    if "loss=triplet" in overrides:
        pytest.importorskip("pytorch_metric_learning")
    run = train(tmp_path / "run", tiny_root, *RETRIEVAL, *overrides)
    assert run.status()["state"] == "done"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("loss=triplet",), "set mix=none"),
        (
            ("loss=triplet", "mix=none", "data.per_class=3"),
            "data.batch_size=8 cannot hold pictures of 2 or more classes with data.per_class=3",
        ),
        (("task.margin=2",), "margin=2"),
        (("task.margin_range=[0.5,0.1]",), "task.margin_range=[0.5,0.1]"),
        (("task.weights=cube",), "task.weights=cube"),
        (("task.vote.kind=best",), "task.vote.kind=best; allowed"),
        (
            ("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/recall@2"),
            "allowed: lr, train/loss, train/loss_epoch, train/loss_step, val/accuracy, "
            "val/class_accuracy, val/class_f1, val/f1, val/loss, val/mAP@R, val/recall@1, "
            "val/recall@5.",
        ),
        (
            ("task.gallery_every=2", "monitor=val/accuracy"),
            "monitor=val/accuracy; allowed: val/class_accuracy, val/class_f1, val/loss.",
        ),
        (("task.embedding=0",), "task.embedding=0; allowed: a whole number, 1 or more"),
        (("task.embedding=16.5",), "task.embedding=16.5; allowed: a whole number, 1 or more"),
        (("data.batch_size=1",), "data.batch_size=1 is too small for task=retrieval"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: tuple[str, ...],
    words: str,
) -> None:
    assert words in refusal(tmp_path / "run", tiny_root, caplog, *RETRIEVAL, *overrides)
