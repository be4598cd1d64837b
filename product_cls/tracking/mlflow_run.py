"""MLflow: runs, metrics and files in a local store or on a server; ``mlflow ui`` shows them."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.extras import missing_extra
from product_cls.core.tables import csv_text
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker, parameters
from product_cls.tracking.findings import Findings, pairs_table
from product_cls.tracking.sheet import wrong_sheet

log = logging.getLogger(__name__)

TAG = "product_cls.run"
SQLITE = "sqlite:///"
STORE = f"{SQLITE}multirun/mlflow.db"


class MlflowRun(Tracker, MLFlowLogger):
    """Lightning's MLflow logger, which resumes the MLflow run of an interrupted job.

    If the server fails during training, the job continues without it.

    Args:
        tracking_uri: address of a server, or a file (``sqlite:///...``); None: the environment
            variable MLFLOW_TRACKING_URI, else ``STORE``.
        group: name of the sweep, stored as a tag.
        arguments: passed on to ``MLFlowLogger``.

    Raises:
        UserError: MLflow is not installed, or cannot open ``tracking_uri``.
    """

    def __init__(self, *, tracking_uri: str | None, group: str, **arguments: Any) -> None:
        # The environment is read here, not in the config: the config is written to the run folder,
        # and the variable may hold a login.
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        self._group, self._disconnected = group, False
        self._store: AbstractContextManager[Any] = nullcontext()
        if tracking_uri.startswith(SQLITE):
            file = Path(tracking_uri.removeprefix(SQLITE)).absolute()
            file.parent.mkdir(parents=True, exist_ok=True)
            arguments.setdefault("artifact_location", str(file.parent / "mlartifacts"))
            # The jobs of a sweep start together, but only one job may create the tables of a new
            # file.
            self._store = FileLock(f"{file}.lock")
        try:
            with self._store:
                super().__init__(tracking_uri=tracking_uri, **arguments)
        except ModuleNotFoundError:
            raise missing_extra("logger=mlflow needs MLflow", "mlflow") from None
        except (TypeError, ValueError):  # an argument that Lightning's logger refuses
            raise
        except Exception as error:  # from MLflow or its database
            raise UserError(
                f"logger.mlflow.tracking_uri={tracking_uri} cannot be opened: {reason(error)}."
            ) from None

    @rank_zero_only
    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        tracking_id = folder.status()["tracking_id"]
        self.tags = {TAG: tracking_id, "group": self._group, "fold": str(config["fold"])}
        client = self._mlflow_client
        with self._store:
            self._experiment_id = self._find_or_create_experiment()
        same = f"tags.`{TAG}` = '{tracking_id}'"
        if runs := client.search_runs([self._experiment_id], same, max_results=1):
            self._run_id = runs[0].info.run_id
            client.update_run(self._run_id, status="RUNNING")
        # MLflow refuses parameters that change. The fingerprinted part of the config does not
        # change when a run is resumed.
        self.log_hyperparams(parameters(fingerprinted(config)))

    def _find_or_create_experiment(self) -> str:
        client, name = self._mlflow_client, self._experiment_name
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, self._artifact_location))
            except Exception:  # on a server, another job may have created it meanwhile
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._send(super().log_metrics, metrics, step)

    def finalize(self, status: str = "success") -> None:
        self._send(super().finalize, status)

    def _send(self, method: Callable[..., None], *arguments: Any) -> None:
        """Call a method of Lightning's MLflow logger during training.

        The first error is logged, and nothing more is sent, because a failing server would slow
        down every step.
        """
        if self._disconnected:
            return
        try:
            method(*arguments)
        except Exception as error:  # from MLflow, its database or the network
            self._disconnected = True
            log.warning(
                "MLflow cannot be reached (%s). Its curves end here; logs/metrics.csv is complete.",
                reason(error),
            )

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        # Names of views and heads may have characters that MLflow refuses in names.
        results = {re.sub(r"[^\w/. -]", "_", k): v for k, v in findings.results.items()}
        super().log_metrics(results, int(results["result/steps"]))
        client, run = self.experiment, self.run_id
        client.log_artifact(run, str(folder.metrics_file))
        config = without_login(folder.config_file.read_text())
        client.log_text(run, config, folder.config_file.name)
        client.log_artifact(run, str(folder.best_checkpoint), "checkpoints")
        client.log_artifacts(run, str(folder.predictions_file("test").parent), "predictions")
        client.log_text(run, csv_text(folds.reset_index()), "folds.csv")
        if findings.pairs:
            text = csv_text(pairs_table(findings.pairs))
            client.log_text(run, text, "worst_pairs.csv")
        if (sheet := wrong_sheet(findings.wrong)) is not None:
            client.log_image(run, Image.fromarray(sheet), "wrong_pictures.png")
        # Needed if training ended in other processes or before an interruption.
        super().finalize("success")
