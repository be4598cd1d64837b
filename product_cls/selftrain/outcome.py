"""What each round of self-training gave: a table by view, for single networks and their vote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from product_cls.core.files import write_text_whole
from product_cls.core.tables import write_csv
from product_cls.display.outputs import results_in
from product_cls.display.tables import markdown
from product_cls.ensemble.members import Member
from product_cls.ensemble.system import blend_runs
from product_cls.inference.predictions import Predictions, summarise

TITLE = "accuracy in % (mean and standard deviation of the networks, and their vote)"


def step_rows(step: str, members: Sequence[Member]) -> list[dict[str, Any]]:
    """Rows of a table: the mean of single networks, their spread, and their vote.

    Args:
        step: name of the round.
        members: its runs.

    Returns:
        Accuracy in per cent by split, and for the test by view.
    """
    each = pd.DataFrame([_accuracies(member.splits) for member in members])
    several = len(members) > 1
    kinds = [("mean", each.mean())]
    if several:
        vote = pd.Series(_accuracies(blend_runs(members, "mean").splits), dtype=float)
        kinds += [("sd", each.std(ddof=1)), ("vote", vote)]
    return [{"step": step, "of": kind, **dict(values)} for kind, values in kinds]


def _accuracies(splits: dict[str, Predictions]) -> dict[str, float]:
    found: dict[str, float] = {}
    for split in ("val", "test"):
        if split not in splits:
            continue
        part = splits[split].in_memory()
        summary = summarise(part, part.make_task())
        if "accuracy" not in summary:
            continue
        found[split] = 100 * summary["accuracy"]
        if split == "test":
            for view, values in summary.get("by_view", {}).items():
                found[f"view {view}"] = 100 * values["accuracy"]
    return found


def results_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table of the rows; columns that no row has a number in are left out."""
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def write_outcome(
    out: Path, table: pd.DataFrame, notes: Sequence[str], csv: str = "plain"
) -> list[Path]:
    """Write ``table.csv`` and ``table.md``.

    Args:
        out: the folder.
        table: of results.
        notes: sentences below the table.
        csv: ``plain`` or ``excel``.

    Raises:
        UserError: a file cannot be written.
    """
    files = [out / "table.csv", out / "table.md"]
    with results_in(out):
        write_csv(files[0], table.round(4), style=csv)
        listed = "".join(f"- {note}\n" for note in notes)
        write_text_whole(files[1], f"Self-training: {TITLE}.\n\n{markdown(table)}\n{listed}")
    return files
