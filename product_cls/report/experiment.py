"""A sweep's folder as one object: rows (settings) x replicates (seed and fold) of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from product_cls.analysis.outcomes import Outcome, Pictures, check_same, read_outcome
from product_cls.core.errors import UserError
from product_cls.report.grid import (
    REPLICATES,
    FactorValues,
    Grid,
    RunSettings,
    differing,
    guess_grid,
    read_grid,
    read_settings,
    replicate_of,
)
from product_cls.runs.folder import NO_FOLDER, RunState, find_runs

NoteKind = Literal[
    "no_plan",  # rows and replicates come from the runs found
    "no_settings",  # a run without settings has no place in the tables
    "duplicate",  # two runs for the same place
    "unplanned",  # runs that the sweep did not plan
    "other_setting",  # runs differ in a setting that the sweep does not vary
    "overlapping_folds",  # about intervals over folds
]


@dataclass(frozen=True)
class Note:
    """A sentence that readers of the tables must know; ``kind`` is its subject."""

    kind: NoteKind
    text: str


@dataclass(frozen=True)
class ExperimentRun:
    """One planned run, which may not exist.

    Attributes:
        row, replicate: names, as tables show them.
        state: results count only if its kind is ``done``.
        settings: the run's folder and settings; None if it is missing.
        outcome: decisions on the test split; None unless the run is done.
        status, metrics: contents of ``status.json`` and ``metrics.json``; may be empty.
    """

    row: str
    replicate: str
    state: RunState
    settings: RunSettings | None = None
    outcome: Outcome | None = None
    status: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.state.kind == "done"

    def problem(self) -> str:
        """Why a run is not done, for tables and sentences: ``seed=2 missing: no run folder``."""
        return f"{self.replicate} {self.state.kind}: {self.state.reason}"


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


def excluded(value: str) -> list[str]:
    """The names in ``[mixup,cutmix]``."""
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]


def row_name(factors: Sequence[str], values: FactorValues) -> str:
    """A short name for a setting: the value of a single factor, ``key=value, ...`` of several."""
    if tuple(factors) == ("exclude",):
        return " and ".join(excluded(values[0])) or "nothing"
    if len(factors) == 1:
        return values[0] or "(not set)"
    return ", ".join(f"{key}={value}" for key, value in zip(factors, values, strict=True)) or "all"


def _replicate_names(replicates: Sequence[FactorValues]) -> list[str]:
    """``seed=2``, or ``fold=1``, or both if both vary."""
    present = [k for k in range(len(REPLICATES)) if any(values[k] for values in replicates)]
    vary = [k for k in present if len({values[k] for values in replicates}) > 1] or present[:1]
    return [", ".join(f"{REPLICATES[k]}={r[k]}" for k in vary) or "run" for r in replicates]


def read_experiment(root: Path, *, tta: bool = True) -> Experiment:
    """Read all runs below ``root``, finished or not, and put them into the sweep's planned places.

    Args:
        root: a sweep's folder, ``multirun/NAME``.
        tta: decide by the scores averaged over test-time augmentation.

    Raises:
        UserError: there is no run, none has finished, or finished runs were tested on different
            pictures.
    """
    settings = [read_settings(folder) for folder in find_runs(root)]
    notes: list[Note] = []
    grid = read_grid(root)
    if grid is None:
        grid = guess_grid(settings)
        notes.append(
            Note(
                "no_plan",
                "There is no multirun.yaml that lists the planned jobs. Rows and replicates come "
                "from the runs found, so a setting without a run does not appear.",
            )
        )
    places, grid, place_notes = _place(settings, grid)
    notes += place_notes
    names = [row_name(grid.factors, values) for values in grid.rows]
    replicates = _replicate_names(grid.replicates)
    runs: list[list[ExperimentRun]] = []
    first: tuple[str, Pictures] | None = None
    for values, name in zip(grid.rows, names, strict=True):
        runs.append([])
        for key, replicate in zip(grid.replicates, replicates, strict=True):
            run, pictures = _read_run(name, replicate, places.get((values, key)), tta)
            runs[-1].append(run)
            if pictures is not None and run.settings is not None:
                path = run.settings.folder.path
                label = path.name if path == root else str(path.relative_to(root))
                first = first or (label, pictures)
                check_same(*first, label, pictures)
    if first is None:
        states = "; ".join(f"{r.row}, {r.replicate}: {r.state.kind}" for row in runs for r in row)
        unread = [r.state.reason for row in runs for r in row if r.state.kind == "unreadable"]
        detail = f" ({unread[0]})" if unread else ""
        raise UserError(
            f"No run in {root} has finished, so there is nothing to report: {states}{detail}."
        )
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
        replicates=replicates,
        runs=runs,
        pictures=first[1],
        notes=notes,
        fixed=grid.fixed,
        tta=tta,
    )


def _place(
    runs: Sequence[RunSettings], grid: Grid
) -> tuple[dict[tuple[FactorValues, FactorValues], RunSettings], Grid, list[Note]]:
    """Assign runs to (row, replicate); unplanned runs extend the grid."""
    swept = [any(replicate[k] for replicate in grid.replicates) for k in range(len(REPLICATES))]
    places: dict[tuple[FactorValues, FactorValues], RunSettings] = {}
    rows, replicates = dict.fromkeys(grid.rows), dict.fromkeys(grid.replicates)
    notes: list[Note] = []
    unplanned: list[str] = []
    for run in runs:
        if not run.settings and run.overrides is None:
            state = run.folder.state()
            notes.append(
                Note(
                    "no_settings",
                    f"{run.folder.path} is {state.kind} ({state.reason or 'no reason recorded'}) "
                    "and holds no settings, so it has no place in the tables.",
                )
            )
            continue
        values = tuple(run.value(key) for key in grid.factors)
        replicate = tuple(value if swept[k] else "" for k, value in enumerate(replicate_of(run)))
        earlier = places.get((values, replicate))
        if earlier is not None:
            notes.append(
                Note(
                    "duplicate",
                    f"{run.folder.path} has the same swept settings as {earlier.folder.path} and "
                    "is left out; they differ in a setting that the sweep does not vary.",
                )
            )
            continue
        if values not in grid.rows or replicate not in grid.replicates:
            unplanned.append(run.folder.path.name)
        places[values, replicate] = run
        rows.setdefault(values)
        replicates.setdefault(replicate)
    if unplanned:
        sentence = f"Not planned by the sweep's last command, but found: {'; '.join(unplanned)}."
        notes.append(Note("unplanned", sentence))
    return places, Grid(grid.factors, tuple(rows), tuple(replicates), grid.fixed), notes


def _read_run(
    row: str, replicate: str, settings: RunSettings | None, tta: bool
) -> tuple[ExperimentRun, Pictures | None]:
    if settings is None:
        return ExperimentRun(row, replicate, NO_FOLDER), None
    folder, status = settings.folder, settings.folder.status()
    try:
        metrics = folder.metrics()
    except UserError:
        metrics = {}
    state, outcome, pictures = folder.state(), None, None
    if state.kind == "done":
        file = folder.predictions_file("test")
        try:
            if not file.is_file():
                raise UserError("done, but without predictions of the test split")
            pictures, outcome = read_outcome(file, tta=tta)
        except UserError as error:
            state = RunState("unreadable", str(error).rstrip("."))
    return ExperimentRun(row, replicate, state, settings, outcome, status, metrics), pictures


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
