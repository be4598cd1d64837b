"""TensorBoard and MLflow read back, findings of multi-label runs, and unsynced W&B runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, Logger
from runs_in_process import refusal, train, train_interrupted

from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder
from product_cls.tracking import trackers
from product_cls.tracking.base import Tracker
from product_cls.tracking.findings import find_in
from product_cls.tracking.sync import main, unsynced
from product_cls.tracking.trackers import begin_loggers, build_loggers

SAMPLES = pd.DataFrame({"id": ["a", "b", "c"], "path": ["a.jpg", "b.jpg", "c.jpg"]})


def test_tensorboard_has_curves_results_and_pictures(tmp_path: Path, tiny_root: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path / "run", tiny_root, "logger=tensorboard", "trainer.max_epochs=2")
    events = EventAccumulator(str(run.path / "logs")).Reload()
    steps = [(event.step, event.value) for event in events.Scalars("val/accuracy")]
    assert [step for step, _ in steps] == [2, 5]
    assert max(value for _, value in steps) == pytest.approx(run.status()["value"])
    by_view = run.metrics()["test"]["by_view"]
    for view, values in by_view.items():
        (event,) = events.Scalars(f"result/test/view_{view}/accuracy")
        assert event.value == pytest.approx(values["accuracy"])
    assert "result/wrong_pictures" in events.Tags()["images"]
    assert "result/worst_pairs/text_summary" in events.Tags()["tensors"]
    # The report's learning curves.
    logged = pd.read_csv(run.path / "logs" / "metrics.csv")["val/accuracy"].dropna()
    assert logged.tolist() == pytest.approx([value for _, value in steps], abs=1e-6)


@pytest.mark.slow
def test_mlflow_resumes_the_run_of_a_killed_job(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    pytest.importorskip("sqlalchemy", reason="the extra `mlflow` is not installed")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    words = ("logger=mlflow", "name=sweep", "trainer.max_epochs=2")
    run = train_interrupted(tmp_path / "run", tiny_root, *words, epoch=1)
    client = mlflow.MlflowClient(store)
    (experiment,) = [e for e in client.search_experiments() if e.name == "product_cls"]
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED" and kept.data.tags["group"] == "sweep"
    assert kept.data.params["model.backbone"] and kept.data.params["fold"] == "0"
    curve = client.get_metric_history(kept.info.run_id, "val/accuracy")
    assert sorted(point.step for point in curve) == [2, 5]
    test = run.metrics()["test"]
    assert kept.data.metrics["result/test/accuracy"] == pytest.approx(test["accuracy"])
    assert "result/test/view_60/accuracy" in kept.data.metrics
    names = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert {"checkpoints", "predictions", "folds.csv", "metrics.json"} < names
    file = client.download_artifacts(kept.info.run_id, "folds.csv", str(tmp_path))
    assert list(pd.read_csv(file)) == ["id", "fold"]


def saved(folder: Path, **fields: Any) -> Path:
    count = len(fields["target"])
    scores = np.asarray(fields.pop("scores"), np.float32)
    Predictions(
        id=np.array(["a", "b", "c"][:count]), scores=scores, scores_no_tta=scores, **fields
    ).save(folder / "test.npz")
    return folder / "test.npz"


def test_a_picture_with_several_labels_is_wrong_if_one_label_is(tmp_path: Path) -> None:
    file = saved(
        tmp_path,
        scores=[[0.9, 0.2], [0.9, 0.8], [0.1, 0.7]],
        classes=np.array(["A", "B"]),
        task={"name": "multi_label", "labels": ["A", "B"]},
        target=np.array([[1, 0], [1, 0], [-1, 1]]),
    )
    findings = find_in({"test": {"accuracy": 0.75}}, file, SAMPLES)
    (wrong,) = findings.wrong  # "c" has an unknown label
    assert (wrong.id, wrong.target, wrong.decided) == ("b", "A", "A B")
    assert findings.pairs == [] and findings.results == {"result/test/accuracy": 0.75}


def test_a_picture_with_several_heads_is_wrong_if_one_head_is(tmp_path: Path) -> None:
    heads = {n: {"column": n, "classes": ["x", "y"]} for n in ("mask", "age")}
    file = saved(
        tmp_path,
        scores=[[0.9, 0.1, 0.2, 0.8], [0.9, 0.1, 0.9, 0.1], [0.9, 0.1, 0.9, 0.1]],
        classes=np.array(["mask=x", "mask=y", "age=x", "age=y"]),
        task={"name": "multi_head", "heads": heads, "uncertainty": False, "complete": True},
        target=np.array([[0, 1], [0, 1], [-1, -1]]),
    )
    findings = find_in({}, file, SAMPLES)
    assert [wrong.id for wrong in findings.wrong] == ["b"]
    assert "y" in findings.wrong[0].target and len(findings.pairs) == 1


def test_pictures_with_unknown_labels_are_not_mistakes(tmp_path: Path) -> None:
    file = saved(
        tmp_path,
        scores=[[0.9, 0.1]],
        classes=np.array(["0", "1"]),
        task={"name": "single_label", "label": "label", "classes": ["0", "1"]},
        target=np.array([-1]),
    )
    findings = find_in({"test": {"count": 1}}, file, SAMPLES)
    assert findings.wrong == [] and findings.pairs == [] and findings.by_view.empty


def test_confident_mistakes_come_first_and_a_hundred_are_kept(tmp_path: Path) -> None:
    count = 120
    sure = np.linspace(0.51, 0.99, count, dtype=np.float32)
    scores = np.stack([sure, 1 - sure], axis=1)
    Predictions(
        id=np.array([f"{k:03}" for k in range(count)]),
        scores=scores,
        scores_no_tta=scores,
        classes=np.array(["0", "1"]),
        task={"name": "single_label", "label": "label", "classes": ["0", "1"]},
        target=np.ones(count, np.int64),
    ).save(tmp_path / "test.npz")
    findings = find_in({}, tmp_path / "test.npz", SAMPLES)
    assert findings.wrong_count == 120 and len(findings.wrong) == 100
    assert findings.wrong[0].id == "119" and findings.wrong[0].path is None
    assert findings.wrong[0].answers == ["0  99%", "1  1%"]
    assert findings.pairs[0].count == 120


def test_unsynced_files_are_found(tmp_path: Path, run_command: Any) -> None:
    def file(run: str, name: str) -> Path:
        path = tmp_path / run / "wandb" / name / "run-x.wandb"
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    offline = file("a", "offline-run-20260101_000000-x")
    cut_off = file("a", "run-20260101_000001-x")
    sent = file("b", "offline-run-20260101_000000-x")
    sent.with_name("run-x.wandb.synced").touch()
    busy = file("c", "offline-run-20260101_000000-x")
    with RunFolder(tmp_path / "c").locked():
        files, training = unsynced(tmp_path)
    assert files == sorted([offline, cut_off])
    assert training == [f"{tmp_path / 'c'} is still training; sync it when it has finished"]
    assert unsynced(tmp_path)[0] == sorted([offline, cut_off, busy])
    for path in (offline, cut_off, busy):
        path.with_name("run-x.wandb.synced").touch()
    status, out, _ = run_command(main)(f"runs={tmp_path}")
    assert status == 0 and out == f"Nothing to sync to W&B in {tmp_path}.\n"
    assert run_command(main)(f"runs={tmp_path / 'nothing'}")[0] == 2


class Kept(Tracker, Logger):
    """A tracker that keeps the config."""

    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        self.config = config

    def publish(self, *_: Any) -> None: ...

    name = version = None
    log_metrics = log_hyperparams = publish


class Unreachable(Kept):
    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        raise ConnectionError("https://me:secret@host does not answer.")


def begun_loggers(config: DictConfig, folder: RunFolder) -> list[Logger]:
    return begin_loggers(build_loggers(config), config, folder)


def test_trackers_get_no_logins(tmp_path: Path) -> None:
    config = {
        "logger": {"kept": {"_target_": "test_trackers.Kept"}},
        "data": {"root": "s3://me:secret@host/shop", "all": ["${data.root}", 1, None]},
    }
    (kept,) = begun_loggers(OmegaConf.create(config), RunFolder(tmp_path))
    assert isinstance(kept, Kept)
    assert kept.config["data"] == {"root": "s3://host/shop", "all": ["s3://host/shop", 1, None]}


def test_a_tracker_that_cannot_begin_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {
        "far": {"_target_": "test_trackers.Unreachable"},
        "csv": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(tmp_path)},
    }
    loggers = begun_loggers(OmegaConf.create({"logger": nodes}), RunFolder(tmp_path))
    assert [type(logger) for logger in loggers] == [CSVLogger]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        "Unreachable cannot begin (https://host does not answer); the run continues without it."
    )


@pytest.mark.parametrize("logger", ["mlflow", "wandb", "tensorboard"])
def test_a_missing_package_is_said_before_anything_is_read(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    logger: str,
) -> None:
    real = trackers.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == logger else real(name))
    sentence = refusal(tmp_path / "run", tmp_path / "no data", caplog, f"logger={logger}")
    assert sentence.startswith(f"logger={logger} needs ") and "pip install" in sentence


def test_a_logger_that_is_no_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sentence = refusal(tmp_path / "run", tmp_path / "no data", caplog, "logger.csv=7")
    assert sentence.startswith("logger.csv=7; allowed: settings with a _target_")
