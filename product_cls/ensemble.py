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
        raise UserError(f"No run in {root} has finished: {'; '.join(left_out)}.")
    return runs, left_out


def _group(folder: RunFolder) -> str:
    """What a run is besides its fold and seed, in few words."""
    config = yaml.safe_load(folder.config_file.read_text())
    words = [config["model"]["backbone"]]
    for word in folder.path.name.split(","):
        if not word.startswith(("fold=", "seed=", "model=", "default")):
            words.append(word)
    return ",".join(words)


COLUMNS = ("val", "test")


def _row(name: str, predictions: dict[str, Predictions]) -> dict[str, Any]:
    """A row of the table: accuracies in per cent."""
    row: dict[str, Any] = {"run": name}
    for split in COLUMNS:
        if split not in predictions:
            continue
        part = predictions[split]
        summary = summarise(part, part.make_task())
        row[f"{split}"] = summary.get("accuracy")
        row[f"{split} no TTA"] = summary.get("accuracy_no_tta")
        for view, values in summary.get("by_view", {}).items():
            if split == "test":
                row[f"test view {view}"] = values.get("accuracy")
    return {k: v * 100 if isinstance(v, float) else v for k, v in row.items() if v is not None}


def _mean_row(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the rows' numbers: what one run is worth, in contrast to their vote."""
    frame = pd.DataFrame(rows).drop(columns="run")
    return {"run": name, **{str(column): mean for column, mean in frame.mean().items()}}


def ensemble_table(
    runs: Sequence[Run], blended: dict[str, Predictions], method: str
) -> pd.DataFrame:
    """One row a run, the mean and the vote of each group of folds, and the ensemble of all.

    Returns:
        Accuracies in per cent, overall, without TTA and by view of the test part.
    """
    rows = [_row(run.name, run.splits) for run in runs]
    groups = sorted({run.group for run in runs})
    for group in groups:
        members = [k for k, run in enumerate(runs) if run.group == group]
        if len(members) < 2:
            continue
        rows.append(_mean_row(f"mean of {len(members)} runs: {group}", [rows[k] for k in members]))
        if len(groups) > 1:
            voted = _blend_splits([runs[k] for k in members], method, None)
            rows.append(_row(f"vote of {len(members)} runs: {group}", voted))
    rows.append(_row(f"ensemble of {len(runs)} runs ({method})", blended))
    return pd.DataFrame(rows)


def _blend_splits(
    runs: Sequence[Run], method: str, weights: Sequence[float] | None
) -> dict[str, Predictions]:
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


def write_submission(predictions: Predictions, root: Path, file: Path) -> None:
    """``filename,prediction`` in the order of the sample file, by the best class of each picture.

    Args:
        predictions: of the test part; ids end in the sample file's names.
        root: the folder that holds ``sample.csv``; without one, rows come in the order of the ids.
        file: where to.

    Raises:
        UserError: the sample file names pictures that were not predicted.
    """
    labels = pd.Series(
        predictions.make_task().decide(predictions.scores),
        index=[str(name).removeprefix("test/") for name in predictions.id],
    )
    sample = root / "sample.csv"
    if sample.is_file():
        names = pd.read_csv(sample, dtype=str)["filename"]
        absent = names[~names.isin(labels.index)]
        if len(absent):
            raise UserError(
                f"{sample} names {len(absent)} pictures that were not predicted, the first is "
                f"{absent.iloc[0]}."
            )
        labels = labels[names]
    table = pd.DataFrame({"filename": labels.index, "prediction": labels.to_numpy()})
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
    if arguments.weights is not None and len(arguments.weights) != len(runs):
        names = ", ".join(run.name for run in runs)
        raise UserError(f"{len(arguments.weights)} weights for {len(runs)} runs: {names}.")
    blended = _blend_splits(runs, arguments.method, arguments.weights)
    for sentence in left_out:
        print(f"LEFT OUT: {sentence}")
    out = Path(arguments.out) if arguments.out else root / "ensemble"
    for split, predictions in blended.items():
        predictions.save(out / "predictions" / f"{split}.npz")
    table = ensemble_table(runs, blended, arguments.method)
    write_text_whole(out / "table.csv", table.round(4).to_csv(index=False))
    write_text_whole(out / "table.md", markdown(table))
    print_table(table, title=f"{root}: accuracy in %")
    files = [out / "table.csv", out / "table.md"]
    if "test" in blended:
        config = yaml.safe_load(find_runs(root)[0].config_file.read_text())
        data_root = Path(str(config["data"].get("root") or ""))
        write_submission(blended["test"], data_root, out / "submission.csv")
        files.append(out / "submission.csv")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
