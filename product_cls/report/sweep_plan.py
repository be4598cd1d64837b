"""Which runs a sweep planned, and which folder stands where: rows (settings) x replicates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from product_cls.analysis.outcomes import Outcome
from product_cls.report.grid import (
    REPLICATES,
    FactorValues,
    Grid,
    RunSettings,
    guess_grid,
    read_grid,
    read_settings,
    replicate_of,
)
from product_cls.runs.folder import NO_FOLDER, RunState, find_runs

NoteKind = Literal[
    "failed",  # failed attempts that are left out
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
class Plan:
    """The planned runs of a sweep, without their results.

    Attributes:
        grid: factors, rows and replicates.
        rows: names of the R settings.
        replicates: names of the S replicates.
        runs: ``[R][S]``.
        notes: for readers of the tables.
    """

    grid: Grid
    rows: list[str]
    replicates: list[str]
    runs: list[list[ExperimentRun]]
    notes: list[Note]


def read_plan(root: Path, *, failed: bool = False) -> Plan:
    """Find all runs below ``root`` and put them into the sweep's planned places.

    Args:
        root: folder of a run or a sweep.
        failed: also keep settings of which the sweep plans nothing and every run has failed, such
            as earlier attempts with a wrong value.

    Raises:
        UserError: there is no run.
    """
    settings = [read_settings(folder) for folder in find_runs(root)]
    notes: list[Note] = []
    planned = read_grid(root)
    if not failed:
        settings, notes = _without_failed(settings, planned)
    grid = planned
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
    names = [row_name(grid.factors, values) for values in grid.rows]
    replicates = _replicate_names(grid.replicates)
    runs = [
        [
            _run(name, replicate, places.get((values, key)))
            for key, replicate in zip(grid.replicates, replicates, strict=True)
        ]
        for values, name in zip(grid.rows, names, strict=True)
    ]
    return Plan(grid, names, replicates, runs, notes + place_notes)


def _run(row: str, replicate: str, settings: RunSettings | None) -> ExperimentRun:
    state = NO_FOLDER if settings is None else settings.folder.state()
    return ExperimentRun(row, replicate, state, settings)


def _without_failed(
    runs: list[RunSettings], planned: Grid | None
) -> tuple[list[RunSettings], list[Note]]:
    """The runs without those of unplanned settings of which every run has failed."""
    factors = (planned or guess_grid(runs)).factors

    def values(run: RunSettings) -> FactorValues:
        return tuple(run.value(key) for key in factors)

    kept = set(planned.rows if planned is not None else ())
    kept |= {values(run) for run in runs if run.folder.state().kind != "failed"}
    rest = [run for run in runs if not run.has_settings or values(run) in kept]
    left_out = len(runs) - len(rest)
    if not left_out or not any(run.has_settings for run in rest):
        return runs, []
    count = "1 failed attempt" if left_out == 1 else f"{left_out} failed attempts"
    text = f"{count} of other settings left out; failed=true shows them."
    return rest, [Note("failed", text)]


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
        if not run.has_settings:
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
            kept, left_out = earlier, run
            if earlier.folder.shortcoming() and not run.folder.shortcoming():
                # A failed attempt takes no place of a result.
                kept, left_out = run, earlier
                places[values, replicate] = run
            notes.append(
                Note(
                    "duplicate",
                    f"{left_out.folder.path} has the same swept settings as {kept.folder.path} and "
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
