"""A CSV logger whose file survives kills and resumed runs."""

import logging
import math
from pathlib import Path

import pandas as pd
from lightning_fabric.loggers.csv_logs import _ExperimentWriter
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from product_cls.core.errors import reason
from product_cls.core.tables import read_csv_rows, write_csv

log = logging.getLogger(__name__)


class ResumableCSVLogger(CSVLogger):
    """Lightning's CSVLogger, but a resumed run keeps the rows of the epochs before it.

    An interrupted epoch, which is trained again, replaces its rows. So a resumed run ends with the
    same file as one that was never interrupted.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        if self._experiment is None:
            self._experiment = CurvesWriter(self.log_dir)
        return self._experiment


class CurvesWriter(ExperimentWriter):
    """Writes the whole file at each save, so that a kill leaves the old file or the new one.

    Lightning's writer deletes the file when it begins, and appends to it.

    Args:
        log_dir: folder of ``metrics.csv``.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.file = Path(self.metrics_file_path)
        self.rows: list[dict[str, str]] = stored_rows(self.file)
        self.resumes = bool(self.rows)

    def _check_log_dir_exists(self) -> None:
        """Lightning's version deletes the file."""

    def save(self) -> None:
        if not self.metrics:
            return
        epochs = [row["epoch"] for row in self.metrics if "epoch" in row]
        if self.resumes and epochs:
            self.rows = [row for row in self.rows if float(row.get("epoch", -1)) < epochs[0]]
            self.resumes = False
        # As text, so that a resumed run writes the same digits again.
        self.rows += [{key: str(value) for key, value in row.items()} for row in self.metrics]
        self.metrics = []
        columns = sorted({key for row in self.rows for key in row})
        write_csv(self.file, pd.DataFrame(self.rows, columns=columns, dtype=object))


def stored_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a ``metrics.csv`` as text, without empty cells; none if the file is missing.

    A file that cannot be read is given up with a warning, as curves are no reason to train anew.
    """
    if not file.exists():
        return []
    try:
        header, *rows = read_csv_rows(file.read_text(encoding="utf-8"))
        table = [{k: v for k, v in zip(header, row, strict=True) if v} for row in rows]
        if not all(math.isfinite(float(row.get("epoch", 0))) for row in table):
            raise ValueError("an epoch is not a number")
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s); the curves begin anew.", file, reason(error))
        return []
    return table
