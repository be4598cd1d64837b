"""A sweep's folder as one object: rows (settings) x replicates (seed and fold) of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from product_cls.analysis.outcomes import Outcome, Pictures, check_same, read_outcome
from product_cls.core.errors import UserError
from product_cls.report.grid import (
    REPLICATES,
    Cell,
    Found,
    Grid,
    differing,
    guess_grid,
    read_found,
    read_grid,
    replicate_of,
)
from product_cls.runs.folder import find_runs

State = Literal["done", "missing", "failed", "running", "limited", "unreadable"]


@dataclass(frozen=True)
class Job:
    """One cell of the experiment.

    Attributes:
        row, replicate: names, as tables show them.
        state: only ``done`` counts; ``limited`` saw a part of the pictures, ``missing`` has no run
            folder.
        reason: one sentence or less about a job that is not done, without a full stop.
        found: its folder and settings; None where it is missing.
        outcome: on the test part; None unless done.
        status, metrics: what ``status.json`` and ``metrics.json`` say; may be empty.
    """

    row: str
    replicate: str
    state: State
    reason: str = ""
    found: Found | None = None
    outcome: Outcome | None = None
    status: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Everything that the report says comes from here.

    Attributes:
        root: the sweep's folder.
        factors: swept keys besides seed and fold.
        rows: names of the settings in the sweep's order, R of them.
        cells: their values, as text.
        replicates: names, S of them.
        jobs: ``[R][S]``.
        pictures: the test pictures of all finished runs.
        notes: sentences that a reader must know.
        fixed: overrides that all jobs share.
        tta: whether decisions are those of test-time augmentation.
    """

    root: Path
    factors: tuple[str, ...]
    rows: list[str]
    cells: list[Cell]
    replicates: list[str]
    jobs: list[list[Job]]
    pictures: Pictures
    notes: list[str]
    fixed: tuple[str, ...]
    tta: bool

    @property
    def ablation(self) -> bool:
        """Whether rows are what is left out."""
        return self.factors == ("exclude",)

    def correct(self) -> np.ndarray:
        """``[R, S, N]``, NaN where a job is not done."""
        shape = len(self.rows), len(self.replicates), len(self.pictures.id)
        result = np.full(shape, np.nan, dtype=np.float32)
        for r, row in enumerate(self.jobs):
            for s, job in enumerate(row):
                if job.outcome is not None:
                    result[r, s] = job.outcome.correct
        return result

    def finished(self) -> list[Job]:
        return [job for row in self.jobs for job in row if job.state == "done"]

    def averaged(self) -> str:
        """``with`` or ``without`` test-time augmentation, as far as the scores tell."""
        kinds = {job.found.value("tta") for job in self.finished() if job.found is not None}
        return "without" if not self.tta or kinds == {"[identity]"} else "with"

    def unfinished(self) -> list[Job]:
        return [job for row in self.jobs for job in row if job.state != "done"]


def excluded(value: str) -> list[str]:
    """The names in ``[mixup,cutmix]``."""
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]


def row_name(factors: Sequence[str], cell: Cell) -> str:
    """A setting in few words: the value of a single factor, ``key=value`` of several."""
    if tuple(factors) == ("exclude",):
        return " and ".join(excluded(cell[0])) or "nothing"
    if len(factors) == 1:
        return cell[0] or "(not set)"
    return ", ".join(f"{key}={value}" for key, value in zip(factors, cell, strict=True)) or "all"


def _replicate_names(replicates: Sequence[Cell]) -> list[str]:
    """``seed=2``, or with the fold where folds differ."""
    told = [k for k in range(len(REPLICATES)) if any(replicate[k] for replicate in replicates)]
    vary = [k for k in told if len({replicate[k] for replicate in replicates}) > 1] or told[:1]
    return [", ".join(f"{REPLICATES[k]}={r[k]}" for k in vary) or "run" for r in replicates]


def read_experiment(root: Path, *, tta: bool = True) -> Experiment:
    """All runs below ``root``, finished or not, in the places the sweep had planned for them.

    Args:
        root: a sweep's folder, ``multirun/NAME``.
        tta: whether accuracy is that of the scores averaged over test-time augmentation.

    Raises:
        UserError: no run, none finished, or finished ones that cannot stand in one table.
    """
    found = [read_found(folder) for folder in find_runs(root)]
    notes: list[str] = []
    planned = read_grid(root)
    grid = planned or guess_grid(found)
    if planned is None:
        notes.append(
            "There is no multirun.yaml that lists the planned jobs: rows and replicates are those "
            "of the runs found, and a setting of which no run has begun is not seen."
        )
    places, grid, strays = _place(found, grid)
    notes += strays
    names = [row_name(grid.factors, cell) for cell in grid.rows]
    replicates = _replicate_names(grid.replicates)
    jobs: list[list[Job]] = []
    first: tuple[str, Pictures] | None = None
    for cell, name in zip(grid.rows, names, strict=True):
        jobs.append([])
        for key, replicate in zip(grid.replicates, replicates, strict=True):
            job, pictures = _read_job(name, replicate, places.get((cell, key)), root, tta)
            jobs[-1].append(job)
            if pictures is not None and job.found is not None:
                label = _path(job.found, root)
                first = first or (label, pictures)
                check_same(*first, label, pictures)
    if first is None:
        why = "; ".join(f"{j.row}, {j.replicate}: {j.state}" for row in jobs for j in row)
        unread = [j.reason for row in jobs for j in row if j.state == "unreadable"]
        why += f" ({unread[0]})" if unread else ""
        raise UserError(f"No run in {root} is finished, so there is nothing to report: {why}.")
    done = [job for row in jobs for job in row if job.found is not None and job.state == "done"]
    notes += _unplanned_differences([j.found for j in done if j.found is not None], grid.factors)
    if len({key[1] for key in grid.replicates}) > 1:
        notes.append(
            "Replicates are folds, whose training pictures overlap: intervals tell how a result "
            "varies over the folds of this data set, and are rather too narrow for another set."
        )
    return Experiment(
        root=root,
        factors=grid.factors,
        rows=names,
        cells=list(grid.rows),
        replicates=replicates,
        jobs=jobs,
        pictures=first[1],
        notes=notes,
        fixed=grid.fixed,
        tta=tta,
    )


def _path(run: Found, root: Path) -> str:
    path = run.folder.path
    return path.name if path == root else str(path.relative_to(root))


def _place(
    found: Sequence[Found], grid: Grid
) -> tuple[dict[tuple[Cell, Cell], Found], Grid, list[str]]:
    """Which run fills which cell; runs that were not planned widen the grid."""
    swept = [any(replicate[k] for replicate in grid.replicates) for k in range(len(REPLICATES))]
    places: dict[tuple[Cell, Cell], Found] = {}
    rows, replicates = dict.fromkeys(grid.rows), dict.fromkeys(grid.replicates)
    notes: list[str] = []
    strays: list[str] = []
    for run in found:
        if not run.settings and run.typed is None:
            status = run.folder.status()
            notes.append(
                f"{run.folder.path} is {status.get('state', 'unreadable')} and tells none of its "
                f"settings, so it has no place in the tables: {status.get('error') or 'no reason'}."
            )
            continue
        cell = tuple(run.value(key) for key in grid.factors)
        told = replicate_of(run)
        replicate = tuple(value if swept[k] else "" for k, value in enumerate(told))
        earlier = places.get((cell, replicate))
        if earlier is not None:
            notes.append(
                f"{run.folder.path} has the settings of {earlier.folder.path}, which is the one "
                "reported; they differ in something that the sweep does not vary."
            )
            continue
        if cell not in grid.rows or replicate not in grid.replicates:
            strays.append(run.folder.path.name)
        places[cell, replicate] = run
        rows.setdefault(cell)
        replicates.setdefault(replicate)
    if strays:
        notes.append(f"Not planned by the sweep's last command, but there: {'; '.join(strays)}.")
    return places, Grid(grid.factors, tuple(rows), tuple(replicates), grid.fixed), notes


def _read_job(
    row: str, replicate: str, found: Found | None, root: Path, tta: bool
) -> tuple[Job, Pictures | None]:
    if found is None:
        return Job(row, replicate, "missing", "no run folder"), None
    status = found.folder.status()
    try:
        metrics = found.folder.metrics()
    except UserError:
        metrics = {}

    def job(state: State, reason: str, outcome: Outcome | None = None) -> Job:
        return Job(row, replicate, state, reason, found, outcome, status, metrics)

    state = status.get("state")
    if status.get("limited"):
        return job("limited", "saw a part of the pictures only (trainer=debug)"), None
    if state == "failed":
        error = " ".join(str(status.get("error") or "no reason given").split())
        return job("failed", error.rstrip(".")), None
    if state == "running":
        epochs = status.get("epochs")
        far = f"after epoch {status.get('epoch', 0)} of {epochs}" if epochs else "just begun"
        return job("running", far), None
    if state != "done":
        return job("unreadable", f"{found.folder.status_file} cannot be read"), None
    file = found.folder.predictions_file("test")
    if not file.is_file():
        return job("unreadable", "done, but without predictions of the test part"), None
    try:
        pictures, outcome = read_outcome(file, tta=tta)
    except UserError as error:
        return job("unreadable", str(error).rstrip(".")), None
    return job("done", "", outcome), pictures


def _unplanned_differences(runs: Sequence[Found], factors: Sequence[str]) -> list[str]:
    """Finished runs must differ by the factors only, else a row is compared with something else."""
    names = [key.lstrip("+") for key in factors]
    if {"experiment", "sweep"} & set(names):
        return []  # these may set anything
    groups = tuple(f"{name.replace('/', '.')}." for name in names)
    table = differing([run.settings for run in runs if run.settings])
    notes = []
    for key, counts in table.items():
        if key in names or key in REPLICATES or key.startswith(groups):
            continue
        if "loss" in names and key.startswith("task.loss."):  # repeats loss by interpolation
            continue
        values = ", ".join(
            f"{value or 'not set'} ({count} runs)" for value, count in counts.items()
        )
        notes.append(
            f"The runs differ in a setting that the sweep does not vary: {key} = {values}."
        )
    return notes
