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
from product_cls.predictions import Predictions, summarise
from product_cls.report.tables import markdown, print_table
from product_cls.runs import write_text_whole
from product_cls.systems import Blended, Run, blend_runs, load_all_runs


def _row(name: str, predictions: dict[str, Predictions], measure: str) -> dict[str, Any]:
    """A row of the table: ``measure`` in per cent, of the scores as they are."""
    row: dict[str, Any] = {"run": name}
    for split in ("val", "test"):
        if split not in predictions:
            continue
        part = predictions[split]
        summary = summarise(part, part.make_task())
        row[split] = summary.get(measure)
        if split == "test":
            for view, values in summary.get("by_view", {}).items():
                row[f"test view {view}"] = values.get(measure)
    return {k: v * 100 if isinstance(v, float) else v for k, v in row.items() if v is not None}


def _mean_row(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the rows' numbers: what one run is worth, in contrast to their vote."""
    frame = pd.DataFrame(rows).drop(columns="run")
    return {"run": name, **{str(column): mean for column, mean in frame.mean().items()}}


def ensemble_table(
    runs: Sequence[Run],
    blended: Blended,
    method: str,
    *,
    tta: bool = True,
    measure: str = "accuracy",
) -> pd.DataFrame:
    """One row a run, the mean and the vote of each group of folds, and the ensemble of all.

    Args:
        runs: finished runs.
        blended: their blend.
        method: how they were blended.
        tta: of the scores averaged over test-time augmentation, or of the pictures as they are.
        measure: one of the task's.

    Returns:
        The measure in per cent, of validation and test, the latter also by view.
    """

    def seen(splits: dict[str, Predictions]) -> dict[str, Predictions]:
        return splits if tta else {k: part.without_tta() for k, part in splits.items()}

    rows = [_row(run.name, seen(run.splits), measure) for run in runs]
    groups = sorted({run.group for run in runs})
    for group in groups:
        members = [k for k, run in enumerate(runs) if run.group == group]
        if len(members) < 2:
            continue
        rows.append(_mean_row(f"mean of {len(members)} runs: {group}", [rows[k] for k in members]))
        if len(groups) > 1:
            voted = blend_runs([runs[k] for k in members], method)
            how = "joined features" if runs[members[0]].gallery is not None else "vote"
            name = f"{how} of {len(members)} runs: {group}"
            rows.append(_row(name, seen(voted.splits), measure))
    joint = "" if blended.share is None else f"; {blended.share:.2f} retrieval, {blended.source}"
    name = f"ensemble of {len(runs)} runs ({method}{joint})"
    rows.append(_row(name, seen(blended.splits), measure))
    return pd.DataFrame(rows)


def write_submission(predictions: Predictions, file: Path) -> None:
    """``filename,prediction``: the best class of each picture of the test part; of several heads, a
    column each.

    The rows keep the order of the predictions, which is that of the reader: of the sample file, in
    the competition's layout.
    """
    names = [str(name).removeprefix("test/") for name in predictions.id]
    columns = predictions.make_task().submission(predictions.scores)
    table = pd.DataFrame({"filename": names, **columns})
    write_text_whole(file, table.to_csv(index=False))


@dataclass
class Arguments:
    """Blend all finished runs of a sweep; print and write a table, predictions and a submission.

    runs: the sweep's folder, multirun/NAME, or several, as [multirun/softmax,multirun/retrieval].
    out: where to write; null: RUNS/ensemble, of the first folder.
    method: mean, gmean (geometric mean) or sharpened (mean of square roots), for softmax runs;
      retrieval runs are joined by their features.
    weights: one number a run, in the order of the folders and of the runs' names; null: equal.
    share: of the retrieval runs beside softmax runs, 0 to 1; null: tuned out of fold.
    """

    runs: Any = MISSING
    out: str | None = None
    method: str = "mean"
    weights: list[float] | None = None
    share: float | None = None


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
    for split, predictions in blended.splits.items():
        predictions.save(out / "predictions" / f"{split}.npz")
    measures = next(iter(blended.splits.values())).make_task().measures
    tables = {
        (measure, tta): ensemble_table(runs, blended, arguments.method, tta=tta, measure=measure)
        for measure in measures
        for tta in (True, False)
    }
    several = len(measures) > 1
    whole = pd.concat(
        [
            table.assign(tta=tta, **({"measure": measure} if several else {}))
            for (measure, tta), table in tables.items()
        ]
    )
    write_text_whole(out / "table.csv", whole.round(4).to_csv(index=False))
    titles = {key: f"{key[0]} in %, {'with' if key[1] else 'without'} TTA" for key in tables}
    pages = [
        f"{titles[key][0].upper()}{titles[key][1:]}:\n\n{markdown(table)}"
        for key, table in tables.items()
    ]
    write_text_whole(out / "table.md", "\n".join(pages))
    for key, table in tables.items():
        # Of several measures the file has the tables without test-time augmentation.
        if key[1] or not several:
            print_table(table, title=f"{', '.join(map(str, roots))}: {titles[key]}")
    files = [out / "table.csv", out / "table.md"]
    if "test" in blended.splits:
        write_submission(blended.splits["test"], out / "submission.csv")
        files.append(out / "submission.csv")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
