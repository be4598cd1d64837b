"""The files of the report on a sweep: tables, a plot and a page."""

from pathlib import Path

from product_cls.core.files import write_bytes_whole, write_text_whole
from product_cls.core.tables import formula_note, write_csv
from product_cls.display.style import png
from product_cls.display.tables import markdown
from product_cls.report.experiment import Experiment
from product_cls.report.notes import gaps, headline, method_notes, right_sentence
from product_cls.report.page import build_page
from product_cls.report.plots import result_figure
from product_cls.report.summary import Summary, csv_table, result_table, view_table


def write_experiment_report(
    experiment: Experiment, summary: Summary, out: Path, *, csv: str = "plain"
) -> tuple[list[Path], list[str]]:
    """Write ``table.md``, ``table.csv``, ``plot.png`` and ``report.html``, each atomically.

    Args:
        experiment, summary: the results.
        out: the folder.
        csv: how the table is written, ``plain`` or ``excel``.

    Returns:
        The files, and sentences about parts of the page that could not be shown and about names
        that a spreadsheet would run as formulas.
    """
    page, problems = build_page(experiment, summary)
    notes = [note.text for note in experiment.notes]
    parts = [
        right_sentence(experiment, summary),
        f"{headline(experiment)}.",
        "\n".join(f"- {sentence}" for sentence in gaps(experiment)),
        markdown(result_table(experiment, summary)),
        "\n\n".join([*method_notes(experiment, summary), *notes]),
        "![accuracy and differences](plot.png)",
    ]
    if summary.views:
        parts += ["Accuracy in % by view:", markdown(view_table(experiment, summary))]
    write_text_whole(out / "table.md", "\n\n".join(part.strip() for part in parts if part) + "\n")
    table = csv_table(experiment, summary).round(6)
    write_csv(out / "table.csv", table, style=csv)
    if formulas := formula_note([table], csv):
        problems.append(formulas)
    write_bytes_whole(out / "plot.png", png(result_figure(experiment, summary), dpi=200))
    write_text_whole(out / "report.html", page)
    return [out / name for name in ("table.md", "table.csv", "plot.png", "report.html")], problems
