"""A sweep's folder as one object: rows (settings) x replicates (seed and fold) of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from product_cls.analysis.outcomes import Pictures, check_same, read_outcome
from product_cls.core.errors import UserError
from product_cls.report.grid import (
    REPLICATES,
    FactorValues,
    RunSettings,
    differing,
)
from product_cls.report.sweep_plan import ExperimentRun, Note, Plan, read_plan
from product_cls.runs.folder import RunState


@dataclass(frozen=True)
class Experiment:
    """Everything that a report knows about a sweep.

    Attributes:
        root: the sweep's folder.
        factors: swept keys besides seed and fold.
        rows: names of the R settings, in the order of the sweep.
        factor_values: values of the factors in each row, ``[R]``.
        replicates: names of the S replicates.
        runs: ``[R][S]``.
        pictures: the N test pictures that all finished runs share.
        notes: for readers of the tables.
        fixed: overrides that all runs share.
        tta: whether decisions come from scores averaged over test-time augmentation.
    """

    root: Path
    factors: tuple[str, ...]
    rows: list[str]
    factor_values: list[FactorValues]
    replicates: list[str]
    runs: list[list[ExperimentRun]]
    pictures: Pictures
    notes: list[Note]
    fixed: tuple[str, ...]
    tta: bool

    @property
    def ablation(self) -> bool:
        """Whether each row leaves something out."""
        return self.factors == ("exclude",)

    def correct(self) -> np.ndarray:
        """Correct decisions, float32 ``[R, S, N]``: 0 or 1; NaN for unfinished runs."""
        shape = len(self.rows), len(self.replicates), len(self.pictures.id)
        result = np.full(shape, np.nan, dtype=np.float32)
        for r, row in enumerate(self.runs):
            for s, run in enumerate(row):
                if run.outcome is not None:
                    result[r, s] = run.outcome.correct
        return result

    def finished(self) -> list[ExperimentRun]:
        return [run for row in self.runs for run in row if run.done]

    def unfinished(self) -> list[ExperimentRun]:
        return [run for row in self.runs for run in row if not run.done]

    def averaged(self) -> str:
        """``with`` or ``without``, as in "with test-time augmentation"."""
        views = {run.settings.value("tta") for run in self.finished() if run.settings is not None}
        return "without" if not self.tta or views == {"[identity]"} else "with"


def read_experiment(root: Path, *, tta: bool = True, failed: bool = False) -> Experiment:
    """Read all runs below ``root``, finished or not, and put them into the sweep's planned places.

    Args:
        root: a sweep's folder, ``multirun/NAME``.
        tta: decide by the scores averaged over test-time augmentation.
        failed: also show settings of which the sweep plans nothing and every run has failed.

    Raises:
        UserError: there is no run, none has finished, or finished runs were tested on different
            pictures.
    """
    plan = read_plan(root, failed=failed)
    grid, names, notes = plan.grid, plan.rows, list(plan.notes)
    runs: list[list[ExperimentRun]] = []
    first: tuple[str, Pictures] | None = None
    for planned in plan.runs:
        runs.append([])
        for place in planned:
            run, pictures = _read_run(place, tta)
            runs[-1].append(run)
            if pictures is not None and run.settings is not None:
                path = run.settings.folder.path
                label = path.name if path == root else str(path.relative_to(root))
                first = first or (label, pictures)
                check_same(*first, label, pictures)
    if first is None:
        raise UserError(_nothing_to_report(root, plan, [run for row in runs for run in row]))
    finished = [run.settings for row in runs for run in row if run.done and run.settings]
    notes += _unplanned_differences(finished, grid.factors)
    if len({key[1] for key in grid.replicates}) > 1:
        notes.append(
            Note(
                "overlapping_folds",
                "Replicates are folds, which share training pictures. Intervals show how a result "
                "varies over the folds of this data set; for another data set they are too narrow.",
            )
        )
    return Experiment(
        root=root,
        factors=grid.factors,
        rows=names,
        factor_values=list(grid.rows),
        replicates=plan.replicates,
        runs=runs,
        pictures=first[1],
        notes=notes,
        fixed=grid.fixed,
        tta=tta,
    )


def _nothing_to_report(root: Path, plan: Plan, runs: Sequence[ExperimentRun]) -> str:
    """Why there is no result of a test."""
    unread = [run.state.reason for run in runs if run.state.kind == "unreadable"]
    if any(run.done for row in plan.runs for run in row):
        return (
            f"No finished run in {root} has a readable test with labels, which this report needs "
            f"({unread[0]}); without such a test, `product-cls report runs={root}` reports on the "
            "held-out pictures."
        )
    states = "; ".join(f"{run.row}, {run.replicate}: {run.state.kind}" for run in runs)
    detail = f" ({unread[0]})" if unread else ""
    return f"No run in {root} has finished, so there is nothing to report: {states}{detail}."


def _read_run(place: ExperimentRun, tta: bool) -> tuple[ExperimentRun, Pictures | None]:
    """A planned run with its results on the test split."""
    if place.settings is None:
        return place, None
    folder, status = place.settings.folder, place.settings.folder.status()
    try:
        metrics = folder.metrics()
    except UserError:
        metrics = {}
    state, outcome, pictures = place.state, None, None
    if place.done:
        file = folder.predictions_file("test")
        try:
            if not file.is_file():
                raise UserError("done, but without predictions of the test split")
            pictures, outcome = read_outcome(file, tta=tta)
        except UserError as error:
            state = RunState("unreadable", str(error).rstrip("."))
    return replace(place, state=state, outcome=outcome, status=status, metrics=metrics), pictures


def _unplanned_differences(runs: Sequence[RunSettings], factors: Sequence[str]) -> list[Note]:
    """A note on each setting that is not a factor and yet differs between finished runs.

    Readers would take its effect for an effect of the factors.
    """
    names = [key.lstrip("+") for key in factors]
    if {"experiment", "sweep"} & set(names):
        return []  # these may set anything
    groups = tuple(f"{name.replace('/', '.')}." for name in names)
    notes = []
    for key, counts in differing([run.settings for run in runs if run.settings]).items():
        if key in names or key in REPLICATES or key.startswith(groups):
            continue
        if "loss" in names and key.startswith("task.loss."):  # repeats `loss` by interpolation
            continue
        values = ", ".join(
            f"{value or 'not set'} ({count} {'run' if count == 1 else 'runs'})"
            for value, count in counts.items()
        )
        sentence = (
            f"Finished runs differ in a setting that the sweep does not vary: {key} = {values}."
        )
        notes.append(Note("other_setting", sentence))
    return notes
