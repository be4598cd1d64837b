"""MLflow: runs, metrics and files in a store of one's own, ``mlflow ui`` to look at them."""

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
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker, flat
from product_cls.tracking.findings import Findings, pairs_table
from product_cls.tracking.sheet import wrong_sheet

log = logging.getLogger(__name__)

TAG = "product_cls.run"
SQLITE = "sqlite:///"
STORE = f"{SQLITE}multirun/mlflow.db"


class MlflowRun(Tracker, MLFlowLogger):
    """Lightning's MLflow logger, that goes on with the run of an interrupted job, and lets a run go
    on without it when its server fails.

    Args:
        tracking_uri: of a server, or a file (``sqlite:///...``); where None, what
            MLFLOW_TRACKING_URI says, or ``STORE``.
        group: the sweep, kept as a tag.
        arguments: of ``MLFlowLogger``.

    Raises:
        UserError: MLflow is not installed, or cannot open ``tracking_uri``.
    """

    def __init__(self, *, tracking_uri: str | None, group: str, **arguments: Any) -> None:
        # Read here, for what is in the config is written down, and this may hold a login.
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        self._group, self._cut_off = group, False
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
        except (TypeError, ValueError):  # an argument that Lightning's logger refuses
            raise
        except Exception as error:  # MLflow's, or of its database
            raise UserError(
                f"logger.mlflow.tracking_uri={tracking_uri} cannot be opened: {reason(error)}."
            ) from None

    @rank_zero_only
    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        mark = folder.status()["tracking_id"]
        self.tags = {TAG: mark, "group": self._group, "fold": str(config["fold"])}
        client = self._mlflow_client
        with self._store:
            self._experiment_id = self._find_or_make_experiment()
        same = f"tags.`{TAG}` = '{mark}'"
        if runs := client.search_runs([self._experiment_id], same, max_results=1):
            self._run_id = runs[0].info.run_id
            client.update_run(self._run_id, status="RUNNING")
        # MLflow refuses parameters that change; what the fingerprint is of does not in a run.
        self.log_hyperparams(flat(fingerprinted(config)))

    def _find_or_make_experiment(self) -> str:
        client, name = self._mlflow_client, self._experiment_name
        known = client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(client.create_experiment(name, self._artifact_location))
            except Exception:  # of a server, where another job has made it meanwhile
                known = client.get_experiment_by_name(name)
                if known is None:
                    raise
        return str(known.experiment_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._tell(super().log_metrics, metrics, step)

    def finalize(self, status: str = "success") -> None:
        self._tell(super().finalize, status)

    def _tell(self, tell: Callable[..., None], *what: Any) -> None:
        """While training: what fails is said once, and not tried at every step again."""
        if self._cut_off:
            return
        try:
            tell(*what)
        except Exception as error:  # of MLflow, its database or the network
            self._cut_off = True
            log.warning(
                "MLflow cannot be reached (%s): curves end there, logs/metrics.csv has all.",
                reason(error),
            )

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        # MLflow refuses other characters in names, which views and heads may have.
        results = {re.sub(r"[^\w/. -]", "_", k): v for k, v in findings.results.items()}
        super().log_metrics(results, int(results["result/steps"]))
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
        # Also where training ended in other processes, or before it was interrupted.
        super().finalize("success")
