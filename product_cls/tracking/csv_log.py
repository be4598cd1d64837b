"""A CSV logger whose file survives a resumed run."""

from pathlib import Path

import pandas as pd
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment


class ResumableCSVLogger(CSVLogger):
    """Lightning's CSVLogger, but a resumed run keeps the rows logged before the interruption.

    An epoch that was interrupted and trained again appears twice, with the same values.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            file = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
            rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
            writer = super().experiment
            writer.metrics = [
                {key: value for key, value in row.items() if pd.notna(value)} for row in rows
            ]
        return super().experiment
