"""What to believe: random-fold validation, view-held-out validation and the test, side by side.

python -m product_cls.report.validation runs=multirun/validation
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.analysis.outcomes import read_outcome
from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.report.common import FEWEST, Block, Rank, compare_orders, publish, reader_notes
from product_cls.report.experiment import Experiment, read_experiment, row_name
from product_cls.report.notes import headline
from product_cls.report.statistics import known_mean
from product_cls.report.summary import runs_word
from product_cls.report.validation_figure import validation_figure

FACTOR, RANDOM, VIEW = "folds.strategy", "stratified", "view"
UNKNOWN = "unknown"  # a view
KINDS = {"random": "random folds", "held_out": "held-out views"}  # columns, and their names


@dataclass(frozen=True)
class Study:
    """Settings, validated in two ways and tested.

    Attributes:
        experiment: the runs; its rows are setting and strategy.
        table: a row a setting, accuracies in per cent, NaN where runs lack: ``random``,
            ``held_out`` and ``held_out V`` (on view V, of runs that did not train on it); of the
            random-fold runs, which one would hand in, ``test``, ``test V`` and ``unseen`` (test
            views that no validation part has); then how many runs.
        unseen: names of those views.
        notes: sentences that a reader must know.
    """

    experiment: Experiment
    table: pd.DataFrame
    unseen: list[str]
    notes: list[str]

    @property
    def complete(self) -> pd.DataFrame:
        """Settings that have all parts: those that correlations are of."""
        return self.table.dropna(subset=[*KINDS, "test"])


def read_study(root: Path, *, tta: bool = True) -> Study:
    """Everything from the folder of a sweep over ``folds.strategy`` and other settings.

    Raises:
        UserError: the sweep does not vary ``folds.strategy`` over ``stratified`` and ``view``, or
            cannot be read at all.
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
    # Random folds show all views of training; without them it is not known which those are.
    seen = {view for names in validated["view"] for view in names.split("/")}
    known = len(of_views) < len(validated) and seen != {UNKNOWN}
    unseen = [view for view in tested if view not in seen] if known else []
    lines = []
    for name, rows in settings.items():
        random, held = rows.get(RANDOM, -1), rows.get(VIEW, -1)
        own = [by_view.get((held, view), np.nan) for view in views]
        tests = correct[random] if random >= 0 else np.full(correct.shape[1:], np.nan)
        lines.append(
            {
                "setting": name,
                "random": by_row.get(random, np.nan),
                # A mean over other views would be of another difficulty: all of them, or none.
                "held_out": sum(own) / len(own) if own else np.nan,
                **{f"held_out {view}": value for view, value in zip(views, own, strict=True)},
                "test": _test(tests, np.ones(len(pictures.id), bool)),
                **{f"test {view}": _test(tests, pictures.view == view) for view in tested},
                "unseen": _test(tests, np.isin(pictures.view, unseen)),
                "runs_random": _finished(experiment, random),
                "runs_view": _finished(experiment, held),
                "planned": len(experiment.replicates),
            }
        )
    table = pd.DataFrame(lines)
    return Study(experiment, table, unseen, notes + _lacking(table, views))


def _settings(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Name of a setting -> strategy -> row of the experiment."""
    factors = experiment.factors
    strategies: set[str] = set()
    result: dict[str, dict[str, int]] = {}
    if FACTOR in factors:
        at = factors.index(FACTOR)
        for r, cell in enumerate(experiment.cells):
            name = row_name(factors[:at] + factors[at + 1 :], cell[:at] + cell[at + 1 :])
            result.setdefault(name, {})[cell[at]] = r
            strategies.add(cell[at])
    if not {RANDOM, VIEW} <= strategies:
        raise UserError(
            f"The sweep in {experiment.root} does not vary {FACTOR} over {RANDOM} and {VIEW}, "
            "which this report compares (python train.py -m sweep=validation)."
        )
    return result


def _validation(experiment: Experiment) -> tuple[pd.DataFrame, list[str]]:
    """Of finished runs ``row``, ``view`` (``0/30`` of two), ``accuracy`` in %; what is amiss."""
    found: list[tuple[int, str, float]] = []
    notes: list[str] = []
    for r, row in enumerate(experiment.jobs):
        for job in row:
            if job.state != "done" or job.found is None:
                continue
            file = job.found.folder.predictions_file("val")
            try:
                pictures, outcome = read_outcome(file, tta=experiment.tta)
            except UserError as error:
                notes.append(f"{job.row}, {job.replicate} has no validation to read: {error}")
                continue
            views = sorted({view or UNKNOWN for view in pictures.view}, key=natural_key)
            found.append((r, "/".join(views), 100 * float(outcome.correct.mean())))
    return pd.DataFrame(found, columns=["row", "view", "accuracy"]), notes


def _test(correct: np.ndarray, at: np.ndarray) -> float:
    """Mean over finished runs of their accuracy on some pictures; NaN where there are none."""
    return float(known_mean(correct[:, at].mean(axis=1), axis=0)) if at.any() else np.nan


def _finished(experiment: Experiment, row: int) -> int:
    return sum(job.state == "done" for job in experiment.jobs[row]) if row >= 0 else 0


def _lacking(table: pd.DataFrame, views: Sequence[str]) -> list[str]:
    """A sentence for each setting that correlations cannot use."""
    names = {"random": "random folds", "test": "test"}
    names |= {f"held_out {view}": f"held-out view {view}" for view in views}
    notes = []
    for _, row in table.iterrows():
        if lacking := [name for column, name in names.items() if np.isnan(row[column])]:
            notes.append(f"Not in the correlations: {row.setting} lacks {', '.join(lacking)}.")
    return notes if views else [*notes, "No run has validated on a held-out view."]


def correlate(complete: pd.DataFrame, target: str) -> dict[str, Rank]:
    """How well each of ``KINDS`` puts the settings in the order of ``target``; ``difference``."""
    by = {kind: complete[kind].to_numpy(dtype=float) for kind in KINDS}
    return compare_orders(by, complete[target].to_numpy(dtype=float))


def beliefs_table(study: Study) -> pd.DataFrame:
    """What each kind of validation is worth: how far off it is, and whether its order is right."""
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
                **{c: found[kind].word() if found else "-" for c, found in ranks.items()},
            }
        )
    if any(ranks.values()):
        words = {c: found["difference"].word("+") if found else "-" for c, found in ranks.items()}
        row = {"validation": f"{KINDS['held_out']} - {KINDS['random']}", **words}
        lines.append(dict.fromkeys(lines[0], "") | row)
    return pd.DataFrame(lines)


def verdict(study: Study) -> str:
    """What the numbers show, in words; nothing that they do not show."""
    complete = study.complete
    ranks, count = correlate(complete, "test"), len(complete)
    if not ranks:
        return (
            "Verdict: not shown; settings with both kinds of validation and a test: "
            f"{count}, and it takes {FEWEST}."
        )
    told = "; ".join(f"{name}: {_judge(complete, k, ranks[k])}" for k, name in KINDS.items())
    random, held_out = ((complete[kind] - complete["test"]).abs() for kind in KINDS)
    difference = ranks["difference"]
    better = "held-out views" if difference.value > 0 else "random folds"
    return (
        f"Verdict: {told}; the better order of the two: "
        f"{better if difference.shown else 'not shown'}; held-out views are nearer to the test in "
        f"{(held_out < random).sum()} of {count} settings."
    )


def _judge(complete: pd.DataFrame, kind: str, rank: Rank) -> str:
    mean, test = complete[kind].mean(), complete["test"].mean()
    off = (complete[kind] - complete["test"]).abs().mean()
    correlation = f"rank correlation {rank.word()}"
    if complete[kind].nunique() == 1:
        order = "the same for all settings, so it puts nothing in order"
    elif rank.shown:
        agrees = "agrees with" if rank.value > 0 else "is against"
        order = f"its order of the settings {agrees} the test's, {correlation}"
    else:
        few = f" from fewer than {FEWEST} settings" if np.isnan(rank.low) else ""
        order = f"that its order of the settings is the test's is not shown{few}, {correlation}"
    return f"on average {mean:.1f} % where the test says {test:.1f} %, {off:.1f} off, {order}"


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
    """What the numbers are, for below the tables."""
    complete = study.complete
    never = "The test has no view that validation parts lack, as far as views are known."
    if study.unseen:
        never = f"View {', '.join(study.unseen)} of the test is in no training or validation part."
    read = (
        f"{study.experiment.averaged().capitalize()} test-time augmentation. Random folds: "
        f"mean over the runs with {FACTOR}={RANDOM}, each on its own fold. Held-out views: runs "
        f"with {FACTOR}={VIEW}, each on the view that it did not train on, mean over the views. "
        f"Test: {len(study.experiment.pictures.id):,} pictures, mean over the random-fold runs, "
        f"which one would hand in. Runs: random folds + held-out views. {never}"
    )
    if complete.empty:
        return [read]
    return [
        read,
        f"Gap: validation minus test, in points, mean over the {len(complete)} settings that have "
        "all parts. Test of its best setting: what choosing by that validation gives (the best "
        f"there is: {complete['test'].max():.2f}). Rank correlation: Spearman's; in brackets its "
        f"95 % interval, settings resampled (from {FEWEST} settings on). Not shown: the interval "
        "holds 0, which is no proof of no correlation. All this holds for choices among settings "
        "such as these.",
    ]


@dataclass
class Arguments:
    """Which validation tells the truth about the test: random folds or held-out views.

    runs: the sweep's folder, multirun/NAME, of python train.py -m sweep=validation.
    out: where to write; null: RUNS/report.
    tta: of the scores averaged over test-time augmentation, or of the pictures as they are.
    """

    runs: str = MISSING
    out: str | None = None
    tta: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.validation")
    root = Path(arguments.runs)
    study = read_study(root, tta=arguments.tta)
    said = [*reader_notes(study.experiment), *study.notes]
    blocks: list[Block] = [
        verdict(study),
        ("Accuracy in % by setting", settings_table(study)),
        ("What validation is worth", beliefs_table(study)),
        *method_notes(study),
    ]
    out = Path(arguments.out) if arguments.out else root / "report"
    figure = validation_figure(study.table, ", ".join(study.unseen))
    publish(out, headline(study.experiment), said, blocks, study.table, figure)


if __name__ == "__main__":
    guard(main)
