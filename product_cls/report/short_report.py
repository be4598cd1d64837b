"""The files of a short report (models, validation): tables, notes and one plot."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from product_cls.core.files import write_bytes_whole, write_text_whole
from product_cls.core.tables import write_csv
from product_cls.display.outputs import results_in
from product_cls.display.style import png
from product_cls.display.tables import markdown, print_table
from product_cls.report.experiment import Experiment
from product_cls.report.notes import gaps

Block = str | tuple[str, pd.DataFrame]  # a paragraph, or a caption with its table


def reader_notes(experiment: Experiment) -> list[str]:
    """Sentences about missing runs, and the experiment's notes that hold for a short report."""
    # Intervals of a short report are not over folds, so the note about overlapping folds is wrong
    # there.
    notes = [note.text for note in experiment.notes if note.kind != "overlapping_folds"]
    return [*gaps(experiment), *notes]


def write_report(
    out: Path,
    title: str,
    notes: Sequence[str],
    blocks: Sequence[Block],
    table: pd.DataFrame,
    figure: Figure,
    *,
    csv: str = "plain",
) -> None:
    """Print a report and write ``table.md``, ``table.csv`` and ``plot.png``, each atomically.

    Args:
        out: the folder.
        title: one line, without a full stop.
        notes: sentences at the top.
        blocks: the text; empty paragraphs and tables are left out.
        table: all numbers, for ``table.csv``.
        figure: for ``plot.png``.
        csv: how ``table.csv`` is written, ``plain`` or ``excel``.

    Raises:
        UserError: a file cannot be written.
    """
    print(f"{title}.")
    for note in notes:
        print(f"NOTE: {note}")
    parts = [f"{title}.", "\n".join(f"- {note}" for note in notes)]
    for block in blocks:
        if isinstance(block, str):
            print(block, end="\n" if block else "")
            parts.append(block)
        elif not block[1].empty:
            print_table(block[1], title=block[0])
            parts.append(f"{block[0]}:\n\n{markdown(block[1])}")
    parts.append("![plot of these numbers](plot.png)")
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    with results_in(out):
        write_text_whole(out / "table.md", text)
        write_csv(out / "table.csv", table.round(6), style=csv)
        write_bytes_whole(out / "plot.png", png(figure, dpi=200))
    names = ("table.md", "table.csv", "plot.png")
    print("Written: " + ", ".join(str(out / name) for name in names))
