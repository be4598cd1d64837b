"""MLflow: errors of its server become warnings, and a run's final state arrives at its end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
from omegaconf import OmegaConf
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only
from runs_in_process import ROOT, train

from product_cls.runs.folder import RunFolder
from product_cls.tracking import mlflow_run
from product_cls.tracking.findings import Findings
from product_cls.tracking.mlflow_run import MlflowRun

CONFIG = {"fold": 0}


@pytest.fixture
def mlflow_logger(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Replaces Lightning's logger, which needs MLflow; records calls, also those of ``client``."""
    logger = Mock()

    def init(self: Any, *, tracking_uri: str, experiment_name: str = "shop") -> None:
        logger.tracking_uri = tracking_uri
        self._mlflow_client, self._experiment_name = logger.client, experiment_name
        self._artifact_location, self._run_id, self._initialized = None, "r", True

    monkeypatch.setattr(MLFlowLogger, "__init__", init)
    monkeypatch.setattr(MLFlowLogger, "experiment", logger.client)
    for name in ("log_metrics", "log_hyperparams", "finalize"):
        plain = getattr(logger, name)
        monkeypatch.setattr(MLFlowLogger, name, lambda self, *what, plain=plain: plain(*what))
    return logger


def tracker() -> MlflowRun:
    return MlflowRun(tracking_uri="http://host", group="sweep")


def begun(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.begin("a", fresh=True)
    return run


def test_an_experiment_created_by_another_job_is_used(mlflow_logger: Mock, tmp_path: Path) -> None:
    mlflow_logger.client.get_experiment_by_name.side_effect = [
        None,
        SimpleNamespace(experiment_id="7"),
    ]
    mlflow_logger.client.create_experiment.side_effect = RuntimeError("RESOURCE_ALREADY_EXISTS")
    mlflow_logger.client.search_runs.return_value = []
    tracker().begin(begun(tmp_path), CONFIG)
    assert mlflow_logger.client.search_runs.call_args.args[0] == ["7"]
    mlflow_logger.client.get_experiment_by_name.side_effect = [None, None]
    mlflow_logger.client.create_experiment.side_effect = RuntimeError("no room")
    with pytest.raises(RuntimeError, match="no room"):
        tracker().begin(begun(tmp_path), CONFIG)


def test_only_the_first_rank_begins(
    mlflow_logger: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    tracker().begin(begun(tmp_path), CONFIG)
    assert not mlflow_logger.mock_calls


def test_a_server_that_fails_during_training_gives_one_warning(
    mlflow_logger: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow_logger.log_metrics.side_effect = RuntimeError("no route to host.")
    run = tracker()
    run.log_metrics({"loss": 1.0}, 1)
    run.log_metrics({"loss": 0.5}, 2)
    run.finalize("success")
    assert mlflow_logger.log_metrics.call_count == 1 and not mlflow_logger.finalize.called
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("MLflow cannot be reached (no route to host). Its curves end here;")


def test_results_are_sent_at_the_end_even_after_an_error(
    mlflow_logger: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_run, "wrong_sheet", lambda wrong: None)
    mlflow_logger.log_metrics.side_effect = [RuntimeError("no route to host"), None]
    run, folder = tracker(), begun(tmp_path)
    folder.config_file.write_text("root: https://me:secret@host/shop\n")
    run.log_metrics({"loss": 1.0}, 1)
    results = {"result/steps": 3, "result/test/accuracy": 0.5}
    run.publish(folder, Findings(results, pd.DataFrame(), [], [], 0, {}), pd.Series([0]))
    mlflow_logger.log_metrics.assert_called_with(results, 3)
    mlflow_logger.client.log_text.assert_any_call("r", "root: https://host/shop\n", "config.yaml")
    sent = [str(call) for call in mlflow_logger.client.log_artifact.call_args_list]
    assert len(sent) == 2 and not any("config.yaml" in call for call in sent)
    mlflow_logger.finalize.assert_called_once_with("success")


def test_the_server_is_read_from_the_environment(
    mlflow_logger: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    # Not through the config, which is written to the run folder.
    uri = OmegaConf.load(ROOT / "conf/logger/mlflow.yaml").mlflow.tracking_uri
    MlflowRun(tracking_uri=uri, group="sweep")
    assert uri is None and mlflow_logger.tracking_uri == "https://me:secret@host"
    MlflowRun(tracking_uri="https://other", group="sweep")
    assert mlflow_logger.tracking_uri == "https://other"


@pytest.mark.slow
def test_a_missing_server_gives_a_warning(
    tmp_path: Path,
    tiny_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = train(tmp_path / "run", tiny_root, "logger=mlflow")
    assert run.status()["state"] == "done"
    logged = [r.getMessage() for r in caplog.records if r.name == "product_cls.tracking.trackers"]
    assert len(logged) == 1 and logged[0].startswith("MlflowRun cannot begin ("), logged
    assert "secret" not in logged[0] + run.config_file.read_text()
