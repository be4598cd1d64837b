"""Which validation predicts the test: random folds or held-out views."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.outcomes import read_outcome
from product_cls.core.cli import command_words
from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.report.experiment import Experiment, read_experiment
from product_cls.report.resampling import FEWEST, Rank, compare_orders
from product_cls.report.statistics import known_mean
from product_cls.report.summary import runs_word
from product_cls.report.sweep_plan import row_name

FACTOR, RANDOM, VIEW = "folds.strategy", "stratified", "view"
UNKNOWN = "unknown"  # stands for the name of an unknown view
KINDS = {"random": "random folds", "held_out": "held-out views"}  # column -> name


@dataclass(frozen=True)
class Study:
    """Settings, each validated in two ways and tested.

    Attributes:
        experiment: the runs; a row is a setting with a strategy.
        table: one row per setting, accuracies in per cent, NaN if runs are missing. Validation:
            ``random``, ``held_out`` and ``held_out V`` (on view V, by runs that did not train on
            it). Test, by the random-fold runs, because these would be deployed: ``test``,
            ``test V`` and ``unseen`` (test views that no validation split has). The last columns
            are numbers of runs.
        unseen: names of the unseen views.
        notes: sentences that readers must know.
    """

    experiment: Experiment
    table: pd.DataFrame
    unseen: list[str]
    notes: list[str]

    @property
    def complete(self) -> pd.DataFrame:
        """The settings with both validations and a test, which the correlations use."""
        return self.table.dropna(subset=[*KINDS, "test"])


def read_study(root: Path, *, tta: bool = True) -> Study:
    """The study in the folder of a sweep over ``folds.strategy`` and other settings.

    Raises:
        UserError: the sweep does not vary ``folds.strategy`` over ``stratified`` and ``view``, or
            cannot be read.
    """
    experiment = read_experiment(root, tta=tta)
    settings = _settings(experiment)
    validated, notes = _validation(experiment)
    by_row = validated.groupby("row")["accuracy"].mean()
    of_views = validated[validated["row"].isin([rows.get(VIEW) for rows in settings.values()])]
    by_view = of_views.groupby(["row", "view"])["accuracy"].mean()
    views = sorted(set(of_views["view"]), key=natural_key)
    pictures, correct = experiment.pictures, 100 * experiment.correct()
    tested = sorted(set(pictures.view) - {""}, key=natural_key)
    # Random folds contain every training view. Without such runs the training views are unknown.
    validated_views = {view for names in validated["view"] for view in names.split("/")}
    is_known = len(of_views) < len(validated) and validated_views != {UNKNOWN}
    unseen = [view for view in tested if view not in validated_views] if is_known else []
    lines = []
    for name, rows in settings.items():
        random, held = rows.get(RANDOM, -1), rows.get(VIEW, -1)
        accuracies = [by_view.get((held, view), np.nan) for view in views]
        tests = correct[random] if random >= 0 else np.full(correct.shape[1:], np.nan)
        lines.append(
            {
                "setting": name,
                "random": by_row.get(random, np.nan),
                # Views differ in difficulty, so the mean needs all of them.
                "held_out": sum(accuracies) / len(accuracies) if accuracies else np.nan,
                **{
                    f"held_out {view}": accuracy
                    for view, accuracy in zip(views, accuracies, strict=True)
                },
                "test": _test(tests, np.ones(len(pictures.id), bool)),
                **{f"test {view}": _test(tests, pictures.view == view) for view in tested},
                "unseen": _test(tests, np.isin(pictures.view, unseen)),
                "runs_random": _finished(experiment, random),
                "runs_view": _finished(experiment, held),
                "planned": len(experiment.replicates),
            }
        )
    table = pd.DataFrame(lines)
    return Study(experiment, table, unseen, notes + _incomplete(table, views))


def _settings(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Name of a setting -> strategy -> row of the experiment."""
    factors = experiment.factors
    strategies: set[str] = set()
    result: dict[str, dict[str, int]] = {}
    if FACTOR in factors:
        at = factors.index(FACTOR)
        for r, values in enumerate(experiment.factor_values):
            name = row_name(factors[:at] + factors[at + 1 :], values[:at] + values[at + 1 :])
            result.setdefault(name, {})[values[at]] = r
            strategies.add(values[at])
    if not {RANDOM, VIEW} <= strategies:
        raise UserError(
            f"The sweep in {experiment.root} does not vary {FACTOR} over {RANDOM} and {VIEW}, "
            f"which this report compares ({command_words('train')} -m sweep=validation)."
        )
    return result


def _validation(experiment: Experiment) -> tuple[pd.DataFrame, list[str]]:
    """Validation accuracy of every finished run, and a sentence about each run without any.

    Returns:
        Columns ``row``, ``view`` (``0/30`` if a split has two) and ``accuracy`` in %.
    """
    lines: list[tuple[int, str, float]] = []
    notes: list[str] = []
    for r, row in enumerate(experiment.runs):
        for run in row:
            if not run.done or run.settings is None:
                continue
            file = run.settings.folder.predictions_file("val")
            try:
                pictures, outcome = read_outcome(file, tta=experiment.tta)
            except UserError as error:
                notes.append(f"{run.row}, {run.replicate} has no readable validation: {error}")
                continue
            views = sorted({view or UNKNOWN for view in pictures.view}, key=natural_key)
            lines.append((r, "/".join(views), 100 * float(outcome.correct.mean())))
    return pd.DataFrame(lines, columns=["row", "view", "accuracy"]), notes


def _test(correct: np.ndarray, at: np.ndarray) -> float:
    """Mean accuracy of the finished runs on some pictures, in the unit of ``correct``.

    Args:
        correct: float ``[S, N]``, NaN for unfinished runs.
        at: bool ``[N]``, the pictures; the mean of none is NaN.
    """
    return float(known_mean(correct[:, at].mean(axis=1), axis=0)) if at.any() else np.nan


def _finished(experiment: Experiment, row: int) -> int:
    return sum(run.done for run in experiment.runs[row]) if row >= 0 else 0


def _incomplete(table: pd.DataFrame, views: Sequence[str]) -> list[str]:
    """A sentence for each setting that the correlations cannot use."""
    names = {"random": "random folds", "test": "test"}
    names |= {f"held_out {view}": f"held-out view {view}" for view in views}
    notes = []
    for _, row in table.iterrows():
        if missing := [name for column, name in names.items() if np.isnan(row[column])]:
            notes.append(f"Not in the correlations: {row.setting} lacks {', '.join(missing)}.")
    return notes if views else [*notes, "No run has validated on a held-out view."]


def correlate(complete: pd.DataFrame, target: str) -> dict[str, Rank]:
    """Rank correlation of each of ``KINDS`` with the column ``target``, and their difference."""
    by = {kind: complete[kind].to_numpy(dtype=float) for kind in KINDS}
    return compare_orders(by, complete[target].to_numpy(dtype=float))


def validation_table(study: Study) -> pd.DataFrame:
    """For each kind of validation, its distance from the test and its rank correlation with it."""
    complete = study.complete
    targets = {"test": "test"} | (
        {"unseen": f"view {', '.join(study.unseen)}"} if study.unseen else {}
    )
    ranks = {f"rank correlation with {n}": correlate(complete, c) for c, n in targets.items()}
    lines = []
    for kind, name in KINDS.items() if len(complete) else ():
        gap = complete[kind] - complete["test"]
        best = complete["test"][complete[kind] == complete[kind].max()].mean()
        lines.append(
            {
                "validation": name,
                "mean": complete[kind].mean(),
                "test": complete["test"].mean(),
                "gap, absolute": gap.abs().mean(),
                "gap": f"{gap.mean():+.2f}",
                "test of its best setting": best,
                **{c: rank[kind].word() if rank else "-" for c, rank in ranks.items()},
            }
        )
    if any(ranks.values()):
        words = {c: rank["difference"].word("+") if rank else "-" for c, rank in ranks.items()}
        row = {"validation": f"{KINDS['held_out']} - {KINDS['random']}", **words}
        lines.append(dict.fromkeys(lines[0], "") | row)
    return pd.DataFrame(lines)


def verdict(study: Study) -> str:
    """The result in words; it claims only what the intervals show."""
    complete = study.complete
    ranks, count = correlate(complete, "test"), len(complete)
    if not ranks:
        return (
            "Verdict: not shown; settings with both kinds of validation and a test: "
            f"{count}, and {FEWEST} are needed."
        )
    judgements = "; ".join(f"{name}: {_judge(complete, k, ranks[k])}" for k, name in KINDS.items())
    random, held_out = ((complete[kind] - complete["test"]).abs() for kind in KINDS)
    difference = ranks["difference"]
    better = "held-out views" if difference.value > 0 else "random folds"
    return (
        f"Verdict: {judgements}; the better order of the two: "
        f"{better if difference.shown else 'not shown'}; held-out views are closer to the test in "
        f"{(held_out < random).sum()} of {count} settings."
    )


def _judge(complete: pd.DataFrame, kind: str, rank: Rank) -> str:
    mean, test = complete[kind].mean(), complete["test"].mean()
    distance = (complete[kind] - complete["test"]).abs().mean()
    correlation = f"rank correlation {rank.word()}"
    if complete[kind].nunique() == 1:
        order = "the same for all settings, so it does not order them"
    elif rank.shown:
        agrees = "agrees with" if rank.value > 0 else "is opposite to"
        order = f"its order of the settings {agrees} the test's, {correlation}"
    else:
        few = f" (fewer than {FEWEST} settings)" if np.isnan(rank.low) else ""
        order = f"its order of the settings is not shown to agree with the test's{few}, "
        order += correlation
    return f"on average {mean:.1f} % where the test gives {test:.1f} %, {distance:.1f} off, {order}"


def settings_table(study: Study) -> pd.DataFrame:
    """All settings for readers, numbered as in the plot; accuracies in per cent."""
    table = study.table
    planned = table["planned"]
    counts = ("runs_random", "runs_view")
    words = [[runs_word(*pair) for pair in zip(table[c], planned, strict=True)] for c in counts]
    names = {"random": "random folds", "held_out": "held-out views"}
    for column in map(str, table):
        part, _, view = column.partition(" ")
        if view:
            names[column] = f"{'held-out' if part == 'held_out' else 'test,'} view {view}"
    shown = table.drop(columns=["unseen", "planned", *counts]).rename(columns=names)
    shown.insert(0, "no.", range(1, len(shown) + 1))
    return shown.assign(runs=[f"{a} + {b}" for a, b in zip(*words, strict=True)])


def method_notes(study: Study) -> list[str]:
    """How the numbers were computed and how to read them; shown below the tables."""
    complete = study.complete
    unseen = "No test view is known to be missing from the validation splits."
    if study.unseen:
        unseen = (
            f"View {', '.join(study.unseen)} of the test is in no training or validation split."
        )
    columns = (
        f"{study.experiment.averaged().capitalize()} test-time augmentation. Random folds: mean "
        f"over the runs with {FACTOR}={RANDOM}, each on its own fold. Held-out views: runs with "
        f"{FACTOR}={VIEW}, each on the view that it did not train on; mean over the views. Test: "
        f"{len(study.experiment.pictures.id):,} pictures, mean over the random-fold runs, because "
        f"these would be deployed. Runs: random folds + held-out views. {unseen}"
    )
    if complete.empty:
        return [columns]
    return [
        columns,
        f"Gap: validation minus test, in points, mean over the {len(complete)} settings that have "
        "both validations and a test. Test of its best setting: test accuracy after choosing the "
        f"setting by that validation (best possible: {complete['test'].max():.2f}). Rank "
        "correlation: Spearman's, with its 95 % confidence interval in brackets, settings "
        f"resampled (needs {FEWEST} settings). Not shown: the interval contains 0, which does not "
        "prove that there is no correlation. All this holds for choices among settings like these.",
    ]
