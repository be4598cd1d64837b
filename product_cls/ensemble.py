"""Predictions of several runs -> one blended prediction, a table, and a submission.

    python -m product_cls.ensemble runs=multirun/NAME

Reads only the runs' folders. The test part is blended over all runs; the validation part, where
each run holds out other pictures, over the runs that held a picture out (out-of-fold).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from product_cls.blend import blend_predictions, out_of_fold
from product_cls.cli import MISSING, guard, parse_arguments
from product_cls.errors import UserError
from product_cls.predictions import Predictions, summarise
from product_cls.report.tables import markdown, print_table
from product_cls.runs import RunFolder, find_runs, write_text_whole


@dataclass(frozen=True)
class Run:
    """A finished run as the ensemble sees it.

    Attributes:
        name: its folder's name.
        group: what it shares with the runs that differ from it only by the fold and seed.
        splits: its predictions by split.
    """

    name: str
    group: str
    splits: dict[str, Predictions]


def load_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Finished runs below ``root``, and sentences about those that are not.

    Raises:
        UserError: none has finished.
    """
    runs, left_out = [], []
    for folder in find_runs(root):
        status = folder.status()
        name = str(folder.path.relative_to(root)) if folder.path != root else folder.path.name
        if status.get("limited"):
            left_out.append(f"{name} saw a part of the pictures only (trainer=debug)")
            continue
        if status.get("state") != "done":
            why = f": {status['error']}" if status.get("error") else ""
            left_out.append(f"{name} is {status.get('state', 'unreadable')}{why}")
            continue
        splits = {
            split: Predictions.load(folder.predictions_file(split))
            for split in ("val", "test")
            if folder.predictions_file(split).is_file()
        }
        runs.append(Run(name, _group(folder), splits))
    if not runs:
        raise UserError(f"No run in {root} can be blended: {'; '.join(left_out)}.")
    return runs, left_out


def _group(folder: RunFolder) -> str:
    """What a run is besides its fold and seed, in few words."""
    config = yaml.safe_load(folder.config_file.read_text())
    words = [config["model"]["backbone"]]
    for word in folder.path.name.split(","):
        if not word.startswith(("fold=", "seed=", "model=", "default")):
            words.append(word)
    return ",".join(words)


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
    runs: Sequence[Run], blended: dict[str, Predictions], method: str, *, tta: bool = True
) -> pd.DataFrame:
    """One row a run, the mean and the vote of each group of folds, and the ensemble of all.

    Args:
        runs: finished runs.
        blended: their blend, by split.
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
            rows.append(_row(f"vote of {len(members)} runs: {group}", seen(voted)))
    rows.append(_row(f"ensemble of {len(runs)} runs ({method})", seen(blended)))
    return pd.DataFrame(rows)


def blend_runs(
    runs: Sequence[Run], method: str, weights: Sequence[float] | None = None
) -> dict[str, Predictions]:
    """The runs' predictions blended, by split.

    Args:
        runs: finished runs.
        method: see ``blend``.
        weights: one a run; runs of weight 0 are left out.

    Raises:
        UserError: weights that do not fit, or runs that cannot be blended.
    """
    if weights is not None:
        if len(weights) != len(runs):
            names = ", ".join(run.name for run in runs)
            raise UserError(f"{len(weights)} weights for {len(runs)} runs: {names}.")
        if min(weights) < 0 or max(weights) <= 0:
            raise UserError(f"weights={list(weights)}; allowed: 0 or more, not all of them 0.")
        runs = [run for run, weight in zip(runs, weights, strict=True) if weight > 0]
        weights = [weight for weight in weights if weight > 0]
    blended = {}
    for split, how in (("val", out_of_fold), ("test", blend_predictions)):
        having = [k for k, run in enumerate(runs) if split in run.splits]
        if not having:
            continue
        # fold=all leaves no validation part; of the test part every run must have predictions.
        if split == "test" and len(having) < len(runs):
            lacking = next(run.name for run in runs if split not in run.splits)
            raise UserError(f"Run '{lacking}' has no predictions of the test part, others have.")
        parts = [(runs[k].name, runs[k].splits[split]) for k in having]
        blended[split] = how(parts, method, weights and [weights[k] for k in having])
    return blended


def write_submission(predictions: Predictions, file: Path) -> None:
    """``filename,prediction``: the best class of each picture of the test part.

    The rows keep the order of the predictions, which is that of the reader: of the sample file, in
    the competition's layout.
    """
    table = pd.DataFrame(
        {
            "filename": [str(name).removeprefix("test/") for name in predictions.id],
            "prediction": predictions.make_task().decide(predictions.scores),
        }
    )
    write_text_whole(file, table.to_csv(index=False))


@dataclass
class Arguments:
    """Blend all finished runs of a sweep; print and write a table, predictions and a submission.

    runs: the sweep's folder, multirun/NAME.
    out: where to write; null: RUNS/ensemble.
    method: mean, gmean (geometric mean) or sharpened (mean of square roots).
    weights: one number a run, in the order of the runs' names; null: equal.
    """

    runs: str = MISSING
    out: str | None = None
    method: str = "mean"
    weights: list[float] | None = None


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.ensemble")
    root = Path(arguments.runs)
    runs, left_out = load_runs(root)
    blended = blend_runs(runs, arguments.method, arguments.weights)
    for sentence in left_out:
        print(f"LEFT OUT: {sentence}")
    out = Path(arguments.out) if arguments.out else root / "ensemble"
    for split, predictions in blended.items():
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
        print_table(table, title=f"{root}: accuracy in %, {name}")
    files = [out / "table.csv", out / "table.md"]
    if "test" in blended:
        write_submission(blended["test"], out / "submission.csv")
        files.append(out / "submission.csv")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
