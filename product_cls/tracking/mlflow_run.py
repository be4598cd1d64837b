"""MLflow: runs, metrics and files in a store of one's own, ``mlflow ui`` to look at them."""

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from product_cls.errors import UserError, without_login
from product_cls.runs import RunFolder, fingerprinted
from product_cls.tracking.base import Tracker, flat
from product_cls.tracking.findings import Findings, pairs_table
from product_cls.tracking.sheet import wrong_sheet

TAG = "product_cls.run"
SQLITE = "sqlite:///"
STORE = f"{SQLITE}multirun/mlflow.db"


class MlflowRun(Tracker, MLFlowLogger):
    """Lightning's MLflow logger, that goes on with the run of an interrupted job.

    Args:
        tracking_uri: of a server, or a file (``sqlite:///...``); where None, what
            MLFLOW_TRACKING_URI says, or ``STORE``.
        group: the sweep, kept as a tag.
        arguments: of ``MLFlowLogger``.

    Raises:
        UserError: MLflow is not installed.
    """

    def __init__(self, *, tracking_uri: str | None, group: str, **arguments: Any) -> None:
        # Read here, for what is in the config is written down, and this may hold a login.
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        self._group = group
        self._store: AbstractContextManager[Any] = nullcontext()
        if tracking_uri.startswith(SQLITE):
            file = Path(tracking_uri.removeprefix(SQLITE)).absolute()
            file.parent.mkdir(parents=True, exist_ok=True)
            arguments.setdefault("artifact_location", str(file.parent / "mlartifacts"))
            # The jobs of a sweep begin at once, and only one may make the tables of a new file.
            self._store = FileLock(f"{file}.lock")
        try:
            with self._store:
                super().__init__(tracking_uri=tracking_uri, **arguments)
        except ModuleNotFoundError:
            raise UserError(
                'logger=mlflow needs MLflow, which is not installed: pip install -e ".[mlflow]".'
            ) from None

    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        mark = folder.status()["tracking_id"]
        self.tags = {TAG: mark, "group": self._group, "fold": str(config["fold"])}
        client, name = self._mlflow_client, self._experiment_name
        with self._store:
            known = client.get_experiment_by_name(name)
            self._experiment_id = (
                client.create_experiment(name, artifact_location=self._artifact_location)
                if known is None
                else known.experiment_id
            )
        same = f"tags.`{TAG}` = '{mark}'"
        if runs := client.search_runs([self._experiment_id], same, max_results=1):
            self._run_id = runs[0].info.run_id
            client.update_run(self._run_id, status="RUNNING")
        # MLflow refuses parameters that change; what the fingerprint is of does not in a run.
        self.log_hyperparams(flat(fingerprinted(config)))

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        # MLflow refuses other characters in names, which views and heads may have.
        results = {re.sub(r"[^\w/. -]", "_", k): v for k, v in findings.results.items()}
        self.log_metrics(results, int(results["result/steps"]))
        client, run = self.experiment, self.run_id
        client.log_artifact(run, str(folder.metrics_file))
        config = without_login(folder.config_file.read_text())
        client.log_text(run, config, folder.config_file.name)
        client.log_artifact(run, str(folder.best_checkpoint), "checkpoints")
        client.log_artifacts(run, str(folder.predictions_file("test").parent), "predictions")
        client.log_text(run, folds.to_csv(), "folds.csv")
        if findings.pairs:
            text = pairs_table(findings.pairs).to_csv(index=False)
            client.log_text(run, text, "worst_pairs.csv")
        if (sheet := wrong_sheet(findings.wrong)) is not None:
            client.log_image(run, Image.fromarray(sheet), "wrong_pictures.png")
