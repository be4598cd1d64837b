"""Predictions of several runs -> one blended prediction, a table, and a submission.

    python -m product_cls.ensemble runs=multirun/NAME

Reads only the runs' folders. The test part is blended over all runs; the validation part, where
each run holds out other pictures, over the runs that held a picture out (out-of-fold). Softmax runs
vote; retrieval runs are joined by their features; of both together, the share of each is tuned on
the out-of-fold predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from product_cls.cli import MISSING, guard, parse_arguments
from product_cls.decisions import tune_decisions
from product_cls.group_weights import check_numbers, find_weights
from product_cls.predict import pick_device
from product_cls.predictions import Predictions, summarise
from product_cls.report.tables import markdown, print_table
from product_cls.runs import write_text_whole
from product_cls.systems import Blended, Run, blend_runs, by_group, load_all_runs


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


def group_votes(
    runs: Sequence[Run], method: str, device: torch.device | None = None
) -> dict[str, Blended]:
    """The blend of each group of several runs, see ``blend_runs``; none where all are one group."""
    groups = by_group(runs)
    if len(groups) == 1:
        return {}
    return {
        group: blend_runs(some, method, device=device)
        for group, some in groups.items()
        if len(some) > 1
    }


def ensemble_table(
    runs: Sequence[Run],
    blended: Blended,
    votes: Mapping[str, Blended],
    method: str,
    *,
    tta: bool = True,
    measure: str = "accuracy",
    weights: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row a run, the mean and the vote of each group of folds, and the ensemble of all.

    Args:
        runs: finished runs.
        blended: their blend.
        votes: of ``group_votes``.
        method: how they were blended.
        tta: of the scores averaged over test-time augmentation, or of the pictures as they are.
        weights: of the runs in the blend; a column where they are not all equal (None).
        measure: one of the task's.

    Returns:
        The measure in per cent, of validation and test, the latter also by view.
    """

    def seen(splits: dict[str, Predictions]) -> dict[str, Predictions]:
        return splits if tta else {k: part.without_tta() for k, part in splits.items()}

    rows = [_row(run.name, seen(run.splits), measure) for run in runs]
    for group in sorted({run.group for run in runs}):
        members = [k for k, run in enumerate(runs) if run.group == group]
        if len(members) < 2:
            continue
        rows.append(_mean_row(f"mean of {len(members)} runs: {group}", [rows[k] for k in members]))
        if group in votes:
            how = "joined features" if runs[members[0]].gallery is not None else "vote"
            name = f"{how} of {len(members)} runs: {group}"
            rows.append(_row(name, seen(votes[group].splits), measure))
    joint = "" if blended.share is None else f"; {blended.share:.2f} retrieval, {blended.source}"
    name = f"ensemble of {len(runs)} runs ({method}{joint})"
    rows.append(_row(name, seen(blended.splits), measure))
    table = pd.DataFrame(rows)
    if weights is not None:
        others = len(table) - len(runs)
        table.insert(1, "weight", [*map(float, weights), *[float("nan")] * others])
    return table


def write_submission(predictions: Predictions, file: Path) -> None:
    """What each picture of the test part shows: ``filename,prediction``, or a column a head, or for
    several labels ``index`` and a column of 0 and 1 for each.

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
    weights: one number a run, in the order of the folders and of the runs' names; null: equal;
      greedy or optimised: found for groups of runs that vote, on the pictures that they held out.
    share: of the retrieval runs beside softmax runs, 0 to 1; null: tuned out of fold.
    thresholds: of several labels: global (one for all) or per_label, tuned out of fold for the goal
      (accuracy or f1), or half; null: global where there are held-out pictures.
    device: where retrieval runs are searched: auto, cpu, cuda.
    wandb: a W&B project to keep the ensemble in, with the artifacts of its runs as inputs.
    """

    runs: Any = MISSING
    out: str | None = None
    method: str = "mean"
    weights: Any = None
    share: float | None = None
    thresholds: str | None = None
    goal: str = "accuracy"
    device: str = "auto"
    wandb: str | None = None


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.ensemble")
    given = arguments.runs
    roots = [Path(str(name)) for name in (given if isinstance(given, list) else [given])]
    runs, left_out = load_all_runs(roots)
    root = roots[0]
    found = None
    if isinstance(arguments.weights, str):
        found = find_weights(runs, arguments.weights, arguments.method)
    weights = check_numbers(arguments.weights) if found is None else found.runs
    device = pick_device(arguments.device)
    blended = blend_runs(runs, arguments.method, weights, arguments.share, device)
    votes = group_votes(runs, arguments.method, device)
    notes = []
    if found is not None:
        # By these very weights, validation would look better than new pictures will.
        blended = replace(blended, splits=blended.splits | {"val": found.val})
        notes = found.sentences
    for sentence in [*(f"LEFT OUT: {one}." for one in left_out), *notes]:
        print(sentence)
    out = Path(arguments.out) if arguments.out else root / "ensemble"
    decisions = tune_decisions(blended.splits, arguments.thresholds, arguments.goal)
    splits = blended.splits if decisions is None else decisions.splits
    for split, predictions in splits.items():
        predictions.save(out / "predictions" / f"{split}.npz")
    measures = next(iter(blended.splits.values())).make_task().measures
    tables = {
        (measure, tta): ensemble_table(
            runs, blended, votes, arguments.method, tta=tta, measure=measure, weights=weights
        )
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
    write_text_whole(out / "table.md", "\n".join([*pages, *(f"{note}\n" for note in notes)]))
    for key, table in tables.items():
        # Of several measures the file has the tables without test-time augmentation.
        if key[1] or not several:
            print_table(table, title=f"{', '.join(map(str, roots))}: {titles[key]}")
    files = [out / "table.csv", out / "table.md"]
    if decisions is not None:
        files += decisions.write(out)
        print_table(decisions.table, title="measures in % by how labels are decided")
    if "test" in splits:
        write_submission(splits["test"], out / "submission.csv")
        files.append(out / "submission.csv")
    print("Written: " + ", ".join(map(str, files)))
    if arguments.wandb is not None:
        # Imported here, for others need not wait for W&B.
        from product_cls.tracking.wandb_ensemble import keep_ensemble

        table = tables[measures[0], True]
        keep_ensemble(arguments.wandb, roots, out, splits, table, asdict(arguments), weights)


if __name__ == "__main__":
    guard(main)
