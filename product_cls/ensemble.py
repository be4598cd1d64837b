"""Predictions of several runs -> one blended prediction, a table, and a submission.

    python -m product_cls.ensemble runs=multirun/NAME

Reads only the runs' folders. The test part is blended over all runs; the validation part, where
each run holds out other pictures, over the runs that held a picture out (out-of-fold). Softmax runs
vote; retrieval runs are joined by their features; of both together, the share of each is tuned on
the out-of-fold predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.cli import MISSING, guard, parse_arguments
from product_cls.decisions import tune_decisions
from product_cls.predictions import Predictions, summarise
from product_cls.report.tables import markdown, print_table
from product_cls.runs import write_text_whole
from product_cls.systems import Blended, Run, blend_runs, load_all_runs


def _row(name: str, predictions: dict[str, Predictions]) -> dict[str, Any]:
    """A row of the table: accuracies in per cent, of the scores as they are."""
    row: dict[str, Any] = {"run": name}
    for split in ("val", "test"):
        if split not in predictions:
            continue
        part = predictions[split]
        summary = summarise(part, part.make_task())
        row[split] = summary.get("accuracy")
        if split == "test":
            for view, values in summary.get("by_view", {}).items():
                row[f"test view {view}"] = values.get("accuracy")
    return {k: v * 100 if isinstance(v, float) else v for k, v in row.items() if v is not None}


def _mean_row(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the rows' numbers: what one run is worth, in contrast to their vote."""
    frame = pd.DataFrame(rows).drop(columns="run")
    return {"run": name, **{str(column): mean for column, mean in frame.mean().items()}}


def ensemble_table(
    runs: Sequence[Run], blended: Blended, method: str, *, tta: bool = True
) -> pd.DataFrame:
    """One row a run, the mean and the vote of each group of folds, and the ensemble of all.

    Args:
        runs: finished runs.
        blended: their blend.
        method: how they were blended.
        tta: of the scores averaged over test-time augmentation, or of the pictures as they are.

    Returns:
        Accuracies in per cent, of validation and test, the latter also by view.
    """

    def seen(splits: dict[str, Predictions]) -> dict[str, Predictions]:
        return splits if tta else {k: part.without_tta() for k, part in splits.items()}

    rows = [_row(run.name, seen(run.splits)) for run in runs]
    groups = sorted({run.group for run in runs})
    for group in groups:
        members = [k for k, run in enumerate(runs) if run.group == group]
        if len(members) < 2:
            continue
        rows.append(_mean_row(f"mean of {len(members)} runs: {group}", [rows[k] for k in members]))
        if len(groups) > 1:
            voted = blend_runs([runs[k] for k in members], method)
            how = "joined features" if runs[members[0]].gallery is not None else "vote"
            rows.append(_row(f"{how} of {len(members)} runs: {group}", seen(voted.splits)))
    joint = "" if blended.share is None else f"; {blended.share:.2f} retrieval, {blended.source}"
    rows.append(_row(f"ensemble of {len(runs)} runs ({method}{joint})", seen(blended.splits)))
    return pd.DataFrame(rows)


def write_submission(predictions: Predictions, file: Path) -> None:
    """What each picture of the test part shows: ``filename,prediction``, or for several labels
    ``index`` and a column of 0 and 1 for each.

    The rows keep the order of the predictions, which is that of the reader: of the sample file, in
    the competition's layout.
    """
    task = predictions.make_task()
    names = [str(name).removeprefix("test/") for name in predictions.id]
    table = pd.DataFrame({task.id_column: names, **task.submission(predictions.scores)})
    write_text_whole(file, table.to_csv(index=False))


@dataclass
class Arguments:
    """Blend all finished runs of a sweep; print and write a table, predictions and a submission.

    runs: the sweep's folder, multirun/NAME, or several, as [multirun/softmax,multirun/retrieval].
    out: where to write; null: RUNS/ensemble, of the first folder.
    method: mean, gmean (geometric mean) or sharpened (mean of square roots), for softmax runs; mean
      or logits (mean of logits) for several labels; retrieval runs are joined by their features.
    weights: one number a run, in the order of the folders and of the runs' names; null: equal.
    share: of the retrieval runs beside softmax runs, 0 to 1; null: tuned out of fold.
    thresholds: of several labels: global (one for all) or per_label, tuned out of fold for the goal
      (accuracy or f1), or half; null: global where there are held-out pictures.
    """

    runs: Any = MISSING
    out: str | None = None
    method: str = "mean"
    weights: list[float] | None = None
    share: float | None = None
    thresholds: str | None = None
    goal: str = "accuracy"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.ensemble")
    given = arguments.runs
    roots = [Path(str(name)) for name in (given if isinstance(given, list) else [given])]
    runs, left_out = load_all_runs(roots)
    root = roots[0]
    blended = blend_runs(runs, arguments.method, arguments.weights, arguments.share)
    for sentence in left_out:
        print(f"LEFT OUT: {sentence}")
    out = Path(arguments.out) if arguments.out else root / "ensemble"
    decisions = tune_decisions(blended.splits, arguments.thresholds, arguments.goal)
    splits = blended.splits if decisions is None else decisions.splits
    for split, predictions in splits.items():
        predictions.save(out / "predictions" / f"{split}.npz")
    tables = {
        name: ensemble_table(runs, blended, arguments.method, tta=tta)
        for name, tta in (("with TTA", True), ("without TTA", False))
    }
    whole = pd.concat([table.assign(tta=name == "with TTA") for name, table in tables.items()])
    write_text_whole(out / "table.csv", whole.round(4).to_csv(index=False))
    pages = [f"Accuracy in %, {name}:\n\n{markdown(table)}" for name, table in tables.items()]
    write_text_whole(out / "table.md", "\n".join(pages))
    for name, table in tables.items():
        print_table(table, title=f"{', '.join(map(str, roots))}: accuracy in %, {name}")
    files = [out / "table.csv", out / "table.md"]
    if decisions is not None:
        files += decisions.write(out)
        print_table(decisions.table, title="measures in % by how labels are decided")
    if "test" in splits:
        write_submission(splits["test"], out / "submission.csv")
        files.append(out / "submission.csv")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
