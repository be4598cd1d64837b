"""The ensemble's table and submission file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from product_cls.core.names import shown
from product_cls.core.tables import write_csv
from product_cls.data.faults import listed
from product_cls.ensemble.class_totals import ClassTotals
from product_cls.ensemble.members import Member, by_group
from product_cls.ensemble.system import Blended, blend_runs
from product_cls.inference.predictions import Predictions, summarise


def _row(name: str, predictions: dict[str, Predictions], measure: str) -> dict[str, Any]:
    """One row of the table: ``measure`` in per cent, by split and view."""
    row: dict[str, Any] = {"run": name}
    for split in ("val", "test"):
        if split not in predictions:
            continue
        part = predictions[split].in_memory()
        summary = summarise(part, part.make_task())
        row[split] = summary.get(measure)
        if split == "test":
            for view, values in summary.get("by_view", {}).items():
                row[f"test view {view}"] = values.get(measure)
    return {k: v * 100 if isinstance(v, float) else v for k, v in row.items() if v is not None}


def _mean_row(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over rows, that is, the quality of a single run, for comparison with the vote."""
    frame = pd.DataFrame(rows).drop(columns="run")
    return {"run": name, **{str(column): mean for column, mean in frame.mean().items()}}


def group_votes(
    runs: Sequence[Member], method: str, device: torch.device | None = None
) -> dict[str, Blended]:
    """Blend the runs of each group of several runs, by group name; empty for a single group."""
    groups = by_group(runs)
    if len(groups) == 1:
        return {}
    return {
        group: blend_runs(members, method, device=device)
        for group, members in groups.items()
        if len(members) > 1
    }


def ensemble_table(
    runs: Sequence[Member],
    blended: Blended,
    votes: Mapping[str, Blended],
    method: str,
    *,
    tta: bool = True,
    measure: str = "accuracy",
    weights: Sequence[float] | None = None,
    totals: ClassTotals | None = None,
    before: Blended | None = None,
) -> pd.DataFrame:
    """A row for each run, the mean and the vote of each group of folds, and the ensemble.

    Args:
        runs: finished runs.
        blended: their blend.
        votes: from ``group_votes``.
        method: the method that blended them.
        tta: evaluate scores averaged over test-time augmentation, or scores of the pictures as
            they are.
        measure: one of the task's measures.
        weights: of the runs in the blend, shown in a column; None for equal weights.
        totals: the blend under class totals, which get a row of their own.
        before: the blend before ``blended`` was verified, which then gets a row of its own.

    Returns:
        The measure in per cent, for validation and test, and for test also by view.
    """

    def with_or_without_tta(splits: dict[str, Predictions]) -> dict[str, Predictions]:
        return splits if tta else {k: part.without_tta() for k, part in splits.items()}

    rows = [_row(run.name, with_or_without_tta(run.splits), measure) for run in runs]
    for group in sorted({run.group for run in runs}):
        members = [k for k, run in enumerate(runs) if run.group == group]
        if len(members) < 2:
            continue
        rows.append(_mean_row(f"mean of {len(members)} runs: {group}", [rows[k] for k in members]))
        if group in votes:
            how = "joined features" if runs[members[0]].gallery is not None else "vote"
            name = f"{how} of {len(members)} runs: {group}"
            rows.append(_row(name, with_or_without_tta(votes[group].splits), measure))
    joint = "" if blended.share is None else f"; {blended.share:.2f} retrieval, {blended.source}"
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    name = f"ensemble of {count} ({method}{joint})"
    rows.append(_row(name, with_or_without_tta((before or blended).splits), measure))
    if before is not None:
        name = "the same, verified by points in common"
        rows.append(_row(name, with_or_without_tta(blended.splits), measure))
    if totals is not None:
        name = f"the same with class totals ({totals.prior})"
        rows.append(_row(name, with_or_without_tta({"test": totals.test}), measure))
    table = pd.DataFrame(rows)
    if weights is not None:
        others = len(table) - len(runs)
        table.insert(1, "weight", [*map(float, weights), *[float("nan")] * others])
    return table


def write_submission(predictions: Predictions, file: Path) -> None:
    """Write the submission file for the test split.

    Its columns are ``filename,prediction``; with several heads, one column for each; with several
    labels, ``index`` and a column of 0 and 1 for each. Rows are in the order of the predictions, in
    which the reader listed the pictures: in the competition's layout, the order of the sample file.
    Pictures that could not be read are answered by default, see ``with_default_answers``.
    """
    ids, scores = with_default_answers(predictions)
    task = predictions.make_task()
    names = [str(name).removeprefix("test/") for name in ids]
    table = pd.DataFrame({task.id_column: names, **task.submission(scores)})
    write_csv(file, table)


def with_default_answers(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of all pictures that were asked for.

    A picture that could not be read has the mean scores of the others, so that its answer is the
    likeliest class or, with several labels, the usual ones.

    Returns:
        Ids, text ``[M]``, and scores, float32 ``[M, C]``, in the order of ``predictions.asked``.
    """
    if predictions.asked is None:
        return predictions.id, predictions.scores
    scores = predictions.scores
    every = np.tile(scores.mean(axis=0), (len(predictions.asked), 1)).astype(scores.dtype)
    row = pd.Series(np.arange(len(predictions.id)), index=predictions.id)
    rows = row.reindex(predictions.asked)
    known = rows.notna().to_numpy()
    every[known] = scores[rows[known].to_numpy(np.int64)]
    return predictions.asked, every


def default_answers(predictions: Predictions) -> str | None:
    """A sentence about the pictures that a submission answers by default; None without any."""
    if predictions.asked is None:
        return None
    absent = predictions.asked[~np.isin(predictions.asked, predictions.id)]
    ids, scores = with_default_answers(predictions)
    columns = predictions.make_task().submission(scores[ids == absent[0]])
    answer = ", ".join(f"{name} {shown(values[0])}" for name, values in columns.items())
    pictures = "1 picture" if len(absent) == 1 else f"{len(absent)} pictures"
    return (
        f"The submission answers {pictures} that could not be decoded by default, as the other "
        f"pictures are on average ({answer}): {listed(absent, 20)}."
    )
