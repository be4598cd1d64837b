"""``adapt=batchnorm``: unseen views are predicted with statistics of their own pictures."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from runs_in_process import refusal, shuffled_labels, train

from product_cls.inference.adaptation import EVERYTHING, batch_size, domains
from product_cls.inference.adaptation import refusal as why_not
from product_cls.inference.predictions import Predictions


def test_only_unseen_views_change_and_no_test_label_is_read(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = shuffled_labels(tiny_root, tmp_path / "data")
    plain = train(tmp_path / "plain", tiny_root)
    adapted = train(tmp_path / "adapted", tiny_root, "adapt=batchnorm")
    again = train(tmp_path / "again", other, "adapt=batchnorm")
    files = [run.predictions_file("test") for run in (plain, adapted, again)]
    before, after, same = map(Predictions.load, files)
    assert after.view is not None
    seen = after.view != 60
    assert (before.scores[seen] == after.scores[seen]).all()
    assert (before.scores[~seen] != after.scores[~seen]).any(axis=1).all()
    assert (after.scores == same.scores).all()
    assert (after.target != same.target).any()
    assert "Adapted to view 60 of the test part" in caplog.text

    metrics = adapted.metrics()["test"]
    assert metrics["unadapted"] == plain.metrics()["test"]
    assert metrics["accuracy"] == pytest.approx(
        float((after.scores.argmax(axis=1) == after.target).mean())
    )
    assert adapted.metrics()["val"]["accuracy"] == plain.metrics()["val"]["accuracy"]


def test_infomax_learns_from_unseen_views_and_reads_no_label(
    tmp_path: Path, tiny_root: Path
) -> None:
    other = shuffled_labels(tiny_root, tmp_path / "data")
    plain = train(tmp_path / "plain", tiny_root, "adapt=batchnorm")
    informed = train(tmp_path / "informed", tiny_root, "adapt=infomax")
    again = train(tmp_path / "again", other, "adapt=infomax")
    files = [run.predictions_file("test") for run in (plain, informed, again)]
    before, after, same = map(Predictions.load, files)
    assert after.view is not None
    unseen = after.view == 60
    assert (before.scores[~unseen] == after.scores[~unseen]).all()
    assert (before.scores[unseen] != after.scores[unseen]).any(axis=1).all()
    assert (after.scores == same.scores).all()

    def information(scores: np.ndarray) -> float:
        mean = scores.mean(axis=0)
        return float((scores * np.log(scores)).sum(axis=1).mean() - (mean * np.log(mean)).sum())

    assert information(after.scores[unseen]) > information(before.scores[unseen])


def test_infomax_of_few_pictures_takes_their_statistics_alone(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("product_cls.inference.adaptation.PER_CLASS", 100)
    plain = train(tmp_path / "plain", tiny_root, "adapt=batchnorm")
    run = train(tmp_path / "run", tiny_root, "adapt=infomax")
    before, after = (Predictions.load(r.predictions_file("test")).scores for r in (plain, run))
    assert (before == after).all()
    assert "pictures are too few for 4 classes and adapt=infomax, which needs 100" in caplog.text


def test_a_held_out_view_is_adapted_in_validation(tmp_path: Path, tiny_root: Path) -> None:
    words = ("folds.strategy=view", "fold=30", "adapt=batchnorm")
    run = train(tmp_path / "run", tiny_root, *words)
    metrics = run.metrics()["val"]
    assert metrics["unadapted"]["count"] == metrics["count"]
    val = Predictions.load(run.predictions_file("val"))
    assert (val.view == 30).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["adapt=tent"], "adapt=tent; allowed: batchnorm, infomax, null"),
        (["adapt=batchnorm", "adapt_share=1.5"], "adapt_share=1.5; allowed: 0 to 1"),
        (["adapt=batchnorm", "adapt_views=60"], "adapt_views=60; allowed: unseen, all"),
        (["adapt_share=0.5"], "adapt_share=0.5 has no effect without adapt=batchnorm"),
        (
            ["adapt=infomax", "task=multi_head", "task.heads=[label]"],
            "adapt=infomax is for one label per picture, and task=multi_head has several",
        ),
        (
            ["adapt=batchnorm", "model.backbone=test_convnext"],
            "needs batch norms, and model.backbone=test_convnext has none",
        ),
    ],
)
def test_settings_without_effect_are_refused(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert sentence in refusal(tmp_path / "run", tiny_root, caplog, *words)


def test_domains_are_the_views_that_training_does_not_show() -> None:
    views = pd.Series([0.0, 60.0, np.nan, 75.0, 60.0])
    seen = pd.Series([0.0, 30.0, 0.0])
    found = domains(views, seen, 5)
    assert {k: rows.tolist() for k, rows in found.items()} == {"view 60": [1, 4], "view 75": [3]}
    assert set(domains(views, seen, 5, "all")) == {"view 0", "view 60", "view 75"}
    assert domains(None, None, 3)[EVERYTHING].tolist() == [0, 1, 2]


def test_batches_for_statistics_are_large_and_about_equal() -> None:
    assert [batch_size(n) for n in (1, 127, 128, 255, 256, 1152)] == [1, 127, 128, 255, 128, 128]


def test_one_picture_or_one_class_is_no_domain() -> None:
    assert "is one picture" in str(why_not(np.array([[0.2, 0.8]]), 1))
    assert "holds 3 pictures that all seem to show one class" in str(
        why_not(np.array([[0.2, 0.8]] * 3), 3)
    )
    assert why_not(np.array([[0.2, 0.8], [0.9, 0.1]]), 2) is None
