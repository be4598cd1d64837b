"""What runs say about the pictures that they held out: the report of runs without a labelled test.

Each picture is decided by the runs that did not learn from it (out of fold). Validation selects the
best epoch, so these results are a little better than those of a test would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.confusions import Confusion, confused_pairs
from product_cls.analysis.outcomes import Outcome, Pictures, outcome_of
from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.ensemble.voting import out_of_fold
from product_cls.inference.predictions import Predictions
from product_cls.report.sweep_plan import ExperimentRun, Plan, read_plan
from product_cls.runs.folder import find_runs
from product_cls.tasks.single_label import UNKNOWN

SHOWN = 20  # doubtful pictures on the page


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold results of one setting on N labelled pictures.

    Attributes:
        name: of the setting's row.
        runs: its finished runs with validation predictions.
        planned: number of its runs, finished or not.
        pictures: sorted by id.
        outcome: decisions on them.
        doubt: 1 minus the probability given to the true label, ``[N]`` in [0, 1].
        each: accuracy of each run on the pictures that it held out, a share.
    """

    name: str
    runs: list[ExperimentRun]
    planned: int
    pictures: Pictures
    outcome: Outcome
    doubt: np.ndarray
    each: list[float]

    @property
    def right(self) -> int:
        return int(self.outcome.correct.sum())

    @property
    def total(self) -> int:
        return len(self.pictures.id)

    def interval(self) -> str:
        """A sentence with Wilson's 95 % interval of the accuracy."""
        from scipy.stats import binomtest

        found = binomtest(self.right, self.total).proportion_ci(0.95, method="wilson")
        return (
            f"'{self.name}': 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} %, if "
            f"pictures are right or wrong independently of each other."
        )

    def pairs(self) -> list[Confusion]:
        """Products taken for each other, worst first."""
        return confused_pairs(self.pictures, [self.outcome])


@dataclass(frozen=True)
class HeldOutStudy:
    """The rows of a sweep, in its order, and sentences about runs that cannot be used."""

    root: Path
    rows: list[HeldOut]
    notes: list[str]

    def row(self, name: str | None) -> HeldOut:
        """The row of this name, by default the first.

        Raises:
            UserError: there is no such row.
        """
        rows = {row.name: row for row in self.rows}
        if name is not None and name not in rows:
            raise UserError(f"baseline={name}; allowed, a row of the table: {'; '.join(rows)}.")
        return self.rows[0] if name is None else rows[name]

    def headline(self) -> str:
        """How many of how many are right, of the first row; one line without a full stop."""
        row = self.rows[0]
        setting = f", {row.name}" if len(self.rows) > 1 else ""
        runs = "1 run" if len(row.runs) == 1 else f"{len(row.runs)} runs"
        return (
            f"{row.right:,} of {row.total:,} held-out pictures are right "
            f"({100 * row.right / row.total:.1f} %{setting}; {runs})"
        )


def has_labelled_test(root: Path) -> bool:
    """Whether any finished run below ``root`` was tested on a picture with a known label."""
    damaged = readable = False
    for folder in find_runs(root):
        file = folder.predictions_file("test")
        if folder.state().kind != "done" or not file.is_file():
            continue
        try:
            target = Predictions.load(file, stored=True).target
        except UserError:
            damaged = True
            continue
        if (target != UNKNOWN).any():
            return True
        readable = True
    return damaged and not readable  # the report on tests names the damage


def read_held_out(root: Path, *, tta: bool = True, failed: bool = False) -> HeldOutStudy:
    """Read the validation results of all finished runs below ``root``.

    Args:
        root: folder of a run or a sweep.
        tta: decide by the scores averaged over test-time augmentation.
        failed: also name runs of settings of which no run has finished.

    Raises:
        UserError: no finished run has held-out pictures with labels.
    """
    plan = read_plan(root, failed=failed)
    rows, notes = [], [note.text for note in plan.notes if note.kind != "no_plan"]
    for name, runs in zip(plan.rows, plan.runs, strict=True):
        done = [run for run in runs if run.done]
        notes += [f"{name}, {run.problem()}." for run in runs if not run.done]
        row, problems = _row(name, done, len(runs), tta)
        notes += problems
        rows += [row] if row is not None else []
    if not rows:
        raise UserError(
            f"No run in {root} has finished with labelled pictures, held out or in a test, so "
            f"there is nothing to report: {' '.join(notes) or _states(plan)}"
        )
    return HeldOutStudy(root, rows, notes)


def _states(plan: Plan) -> str:
    states = [f"{r.row}, {r.replicate}: {r.state.kind}" for row in plan.runs for r in row]
    return "; ".join(states) + "."


def _row(
    name: str, runs: Sequence[ExperimentRun], planned: int, tta: bool
) -> tuple[HeldOut | None, list[str]]:
    parts: list[tuple[str, Predictions]] = []
    used, each, problems = [], [], []
    for run in runs:
        assert run.settings is not None
        file = run.settings.folder.predictions_file("val")
        try:
            if not file.is_file():
                raise UserError("it held no pictures out (fold=all)")
            part = Predictions.load(file)
            part = part if tta else part.without_tta()
            each.append(float(outcome_of(part, str(file))[1].correct.mean()))
        except UserError as error:
            reason = str(error).rstrip(".")
            problems.append(f"{name}, {run.replicate} is not in the results: {reason}.")
            continue
        parts.append((f"{name}, {run.replicate}", part))
        used.append(run)
    if not parts:
        return None, problems
    try:
        joined = out_of_fold(parts)
    except UserError as error:
        return None, [*problems, f"{name} is not in the results: {error}"]
    pictures, outcome = outcome_of(joined, name)
    task = joined.make_task()
    rows, true = task.true_label_scores(joined.scores, joined.target)
    likely = np.ones(len(joined.id))
    np.minimum.at(likely, rows, true)
    likely[~np.isin(np.arange(len(likely)), rows)] = 0  # a label that training does not have
    at = pd.Series(likely, index=joined.id)[pictures.id].to_numpy()
    return HeldOut(name, used, planned, pictures, outcome, 1 - at, each), problems


def settings_table(study: HeldOutStudy) -> pd.DataFrame:
    """One row per setting: how many are right, and how the runs differ."""
    return pd.DataFrame(
        [
            {
                "setting": row.name,
                "right": f"{row.right:,} of {row.total:,}",
                "accuracy": 100 * row.right / row.total,
                "single run": 100 * float(np.mean(row.each)),
                "sd": 100 * float(np.std(row.each, ddof=1)) if len(row.each) > 1 else np.nan,
                "runs": f"{len(row.runs)} of {row.planned}",
            }
            for row in study.rows
        ]
    )


def products_table(row: HeldOut) -> pd.DataFrame:
    """One row per product, the worst first: its pictures, how many are right, and a mistake."""
    table = pd.DataFrame(
        {"product": row.pictures.name, "right": row.outcome.correct, "decided": row.outcome.decided}
    )
    lines = []
    for name, part in table.groupby("product"):
        wrong = part.loc[part["right"] == 0, "decided"].value_counts().sort_index()
        lines.append(
            {
                "product": name,
                "pictures": len(part),
                "right": int(part["right"].sum()),
                "accuracy": 100 * float(part["right"].mean()),
                "most often taken for": wrong.idxmax() if len(wrong) else "",
            }
        )
    return pd.DataFrame(lines).sort_values(["accuracy", "product"], kind="stable")


def views_table(row: HeldOut) -> pd.DataFrame | None:
    """One row per view, in their order; None if views are unknown."""
    table = pd.DataFrame({"view": row.pictures.view, "right": row.outcome.correct})
    if not table["view"].ne("").any():
        return None
    views = sorted(set(table["view"]), key=natural_key)
    parts = [table.loc[table["view"] == view, "right"] for view in views]
    return pd.DataFrame(
        {
            "view": [view or "unknown" for view in views],
            "pictures": [len(part) for part in parts],
            "accuracy": [100 * part.mean() for part in parts],
        }
    )


def pairs_table(row: HeldOut) -> pd.DataFrame:
    """One row per pair of products that are taken for each other, the worst first."""
    pairs = row.pairs()
    return pd.DataFrame(
        {
            "product": [pair.target for pair in pairs],
            "taken for": [pair.decided for pair in pairs],
            "pictures": [pair.count for pair in pairs],
            "share of its pictures (%)": [100 * pair.share for pair in pairs],
        }
    )


def pictures_table(row: HeldOut) -> pd.DataFrame:
    """One row per picture, the most doubtful first: wrong ones that the runs were sure of."""
    table = pd.DataFrame(
        {
            "id": row.pictures.id,
            "label": row.pictures.name,
            "prediction": row.outcome.decided,
            "right": np.where(row.outcome.correct == 1, "yes", "no"),
            "probability of the label": (1 - row.doubt).round(4),
        }
    )
    return table.sort_values(["probability of the label", "id"], kind="stable")
