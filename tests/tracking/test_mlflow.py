"""MLflow: what goes wrong with its server costs a warning, and a run's state is told at its end."""

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
def told(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Lightning's logger, which needs MLflow, replaced: what it is told, and its ``client``."""
    told = Mock()

    def init(self: Any, *, tracking_uri: str, experiment_name: str = "shop") -> None:
        told.tracking_uri = tracking_uri
        self._mlflow_client, self._experiment_name = told.client, experiment_name
        self._artifact_location, self._run_id, self._initialized = None, "r", True

    monkeypatch.setattr(MLFlowLogger, "__init__", init)
    monkeypatch.setattr(MLFlowLogger, "experiment", told.client)
    for name in ("log_metrics", "log_hyperparams", "finalize"):
        plain = getattr(told, name)
        monkeypatch.setattr(MLFlowLogger, name, lambda self, *what, plain=plain: plain(*what))
    return told


def tracker() -> MlflowRun:
    return MlflowRun(tracking_uri="http://host", group="sweep")


def begun(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.begin("a", fresh=True)
    return run


def test_an_experiment_that_another_job_makes_meanwhile_is_taken(
    told: Mock, tmp_path: Path
) -> None:
    told.client.get_experiment_by_name.side_effect = [None, SimpleNamespace(experiment_id="7")]
    told.client.create_experiment.side_effect = RuntimeError("RESOURCE_ALREADY_EXISTS")
    told.client.search_runs.return_value = []
    tracker().begin(begun(tmp_path), CONFIG)
    assert told.client.search_runs.call_args.args[0] == ["7"]
    told.client.get_experiment_by_name.side_effect = [None, None]
    told.client.create_experiment.side_effect = RuntimeError("no room")
    with pytest.raises(RuntimeError, match="no room"):
        tracker().begin(begun(tmp_path), CONFIG)


def test_the_first_rank_alone_begins(
    told: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    tracker().begin(begun(tmp_path), CONFIG)
    assert not told.mock_calls


def test_a_server_that_fails_while_training_costs_one_warning(
    told: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    told.log_metrics.side_effect = RuntimeError("no route to host.")
    run = tracker()
    run.log_metrics({"loss": 1.0}, 1)
    run.log_metrics({"loss": 0.5}, 2)
    run.finalize("success")
    assert told.log_metrics.call_count == 1 and not told.finalize.called
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("MLflow cannot be reached (no route to host): curves end there")


def test_results_are_sent_at_the_end_whatever_was_before(
    told: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_run, "wrong_sheet", lambda wrong: None)
    told.log_metrics.side_effect = [RuntimeError("no route to host"), None]
    run, folder = tracker(), begun(tmp_path)
    folder.config_file.write_text("root: https://me:secret@host/shop\n")
    run.log_metrics({"loss": 1.0}, 1)
    results = {"result/steps": 3, "result/test/accuracy": 0.5}
    run.publish(folder, Findings(results, pd.DataFrame(), [], [], 0, {}), pd.Series([0]))
    told.log_metrics.assert_called_with(results, 3)
    told.client.log_text.assert_any_call("r", "root: https://host/shop\n", "config.yaml")
    sent = [str(call) for call in told.client.log_artifact.call_args_list]
    assert len(sent) == 2 and not any("config.yaml" in one for one in sent)
    told.finalize.assert_called_once_with("success")


def test_the_server_is_read_from_the_environment(
    told: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    # Not by the config, which is written down.
    given = OmegaConf.load(ROOT / "conf/logger/mlflow.yaml").mlflow.tracking_uri
    MlflowRun(tracking_uri=given, group="sweep")
    assert given is None and told.tracking_uri == "https://me:secret@host"
    MlflowRun(tracking_uri="https://other", group="sweep")
    assert told.tracking_uri == "https://other"


@pytest.mark.slow
def test_a_server_that_is_not_there_is_a_warning(
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
    said = [r.getMessage() for r in caplog.records if r.name == "product_cls.tracking.trackers"]
    assert len(said) == 1 and said[0].startswith("MlflowRun cannot begin ("), said
    assert "secret" not in said[0] + run.config_file.read_text()
