"""Finished runs as tables: metrics, predictions, ensembles."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf

from product_cls.core.errors import UserError
from product_cls.core.nested import flatten
from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder, find_runs


@dataclass(frozen=True)
class Run:
    """A run, whose folder is read on each access.

    Attributes:
        path: the run's folder.
    """

    path: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def state(self) -> str:
        """``done``, ``failed``, ``running``, ``limited`` (trainer=debug), ..."""
        return str(self.folder.state().kind)

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``: metrics by split, epochs, seconds, versions.

        Raises:
            UserError: the run has not finished.
        """
        return self.folder.metrics()

    @property
    def config(self) -> DictConfig:
        """The resolved config."""
        loaded = OmegaConf.load(self.folder.config_file)
        assert isinstance(loaded, DictConfig)
        return loaded

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the best epoch, which made the predictions."""
        return self.folder.best_checkpoint

    def predictions(self, split: str = "test", *, tta: bool = True) -> pd.DataFrame:
        """``read_predictions`` of this run."""
        return read_predictions(self.path, split, tta=tta)


def ensemble(
    runs: Sequence[str | Path],
    *,
    method: str = "mean",
    weights: str | Sequence[float] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Blend the finished runs below some folders.

    Args:
        runs: run or sweep folders; at least one finished run in each.
        method: ``mean``, ``gmean`` or ``sharpened`` for one label per picture; ``mean`` or
            ``logits`` for several.
        weights: one per run, in the order of the table; ``greedy`` or ``optimised`` to tune them
            on held-out pictures; None for equal weights.
        device: where retrieval runs are searched.
        out: folder for predictions, tables and submission, as the command writes them; None writes
            nothing.

    Returns:
        A row for each run, group of runs and the whole system; the task's main measure in %, with
        test-time augmentation.

    Raises:
        UserError: no folders, a folder without a finished run, runs that cannot be blended, or
            weights that do not suit them.
    """
    from product_cls.ensemble.blend_folders import blend_folders

    if isinstance(runs, str | Path):
        raise UserError(f"A single folder was passed; pass a list: ['{runs}'].")
    result = blend_folders(runs, method=method, weights=weights, device=device, out=out)
    for sentence in result.left_out:
        warnings.warn(f"Left out: {sentence}.", stacklevel=3)
    return result.tables[result.measures[0], True]


def read_predictions(
    run: str | Path | Run, split: str = "test", *, tta: bool = True
) -> pd.DataFrame:
    """A finished run's predictions.

    Args:
        run: its folder.
        split: ``val`` or ``test``.
        tta: whether scores are averaged over test-time augmentation.

    Returns:
        Columns ``id``, ``target`` (the label, or the labels joined as the task writes them; None if
        it is unknown or not a class of training), ``view`` if known, and a column of float32 scores
        in [0, 1] for each class.

    Raises:
        UserError: no such run, an unfinished run, or no predictions for that split.
    """
    folder = RunFolder(run.path if isinstance(run, Run) else Path(run))
    find_runs(folder.path)
    state = folder.state()
    if state.kind not in ("done", "limited"):
        raise UserError(f"The run {folder.path} {folder.shortcoming()}.")
    file = folder.predictions_file(split)
    if not file.is_file():
        splits = sorted(other.stem for other in file.parent.glob("*.npz"))
        raise UserError(f"split={split}; the run {folder.path} has {', '.join(splits) or 'none'}.")
    predictions = Predictions.load(file)
    if not tta:
        predictions = predictions.without_tta()
    table = pd.DataFrame({"id": predictions.id, "target": _targets(predictions)})
    if predictions.view is not None:
        table["view"] = predictions.view
    scores = pd.DataFrame(predictions.scores, columns=list(map(str, predictions.classes)))
    return pd.concat([table, scores], axis=1)


def runs(root: str | Path = "multirun") -> pd.DataFrame:
    """List the runs below a folder, sorted by path.

    Returns:
        A row for each run: ``run`` (its folder), ``overrides``, ``state``, ``error`` (why it is
        not done), and its metrics, one column each (``val/accuracy``, ``epochs``, ...).

    Raises:
        UserError: no such folder, or no run in it.
    """
    rows = []
    for folder in find_runs(Path(root)):
        state = folder.state()
        row = {
            "run": str(folder.path),
            "overrides": " ".join(_overrides(folder)),
            "state": state.kind,
            "error": state.reason,
        }
        if folder.metrics_file.is_file():
            metrics = flatten(folder.metrics())
            row |= {key.replace(".", "/"): value for key, value in metrics.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _overrides(folder: RunFolder) -> list[str]:
    try:
        return list(yaml.safe_load((folder.path / ".hydra" / "overrides.yaml").read_text()))
    except (OSError, yaml.YAMLError, TypeError):
        return []


def _targets(predictions: Predictions) -> list[str | None]:
    """Labels by name, ``[N]``."""
    target, classes = predictions.target, predictions.classes
    if target.ndim == 1:
        return [str(classes[k]) if k >= 0 else None for k in target]
    task = predictions.make_task()
    return [None if (row < 0).all() else task.target_name(row) for row in target]
