"""TensorBoard, which needs no account: ``tensorboard --logdir multirun``."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from product_cls.display.tables import markdown
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker, parameters
from product_cls.tracking.findings import Findings, pairs_table
from product_cls.tracking.sheet import wrong_sheet


class TensorBoardRun(Tracker, TensorBoardLogger):
    """Lightning's TensorBoard logger that also publishes results.

    Settings and results appear in the hyperparameters tab, confused products as a text, and
    misclassified pictures as a contact sheet.
    """

    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        self._config = parameters(fingerprinted(config))

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        step = int(findings.results["result/steps"])
        # These are logged as scalars too, so accuracy by view appears among the curves.
        self.log_hyperparams(self._config, dict(findings.results), step)
        if findings.pairs:
            table = markdown(pairs_table(findings.pairs))
            self.experiment.add_text("result/worst_pairs", table, step)
        if (sheet := wrong_sheet(findings.wrong)) is not None:
            self.experiment.add_image("result/wrong_pictures", sheet, step, dataformats="HWC")
        self.experiment.flush()
