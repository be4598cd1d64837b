"""Predictions of several runs -> one blended prediction, a table, and a submission.

    python -m product_cls.ensemble runs=multirun/NAME

Reads only the runs' folders. The test part is blended over all runs; the validation part, where
each run holds out other pictures, over the runs that held a picture out (out-of-fold). Softmax runs
vote; retrieval runs are joined by their features; of both together, the share of each is tuned on
the out-of-fold predictions.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.files import write_text_whole
from product_cls.display.tables import markdown, print_table
from product_cls.ensemble.label_thresholds import tune_decisions
from product_cls.ensemble.members import load_members
from product_cls.ensemble.system import blend_runs
from product_cls.ensemble.table import ensemble_table, group_votes, write_submission
from product_cls.ensemble.tune_weights import check_numbers, find_weights


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
    runs, left_out = load_members(roots)
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
