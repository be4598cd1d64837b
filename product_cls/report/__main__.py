"""A sweep's run folders -> tables, a plot and a page. Reads nothing but those folders.

python -m product_cls.report runs=multirun/ablation
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.files import write_bytes_whole, write_text_whole
from product_cls.display.style import png
from product_cls.display.tables import markdown, print_table
from product_cls.report.experiment import Experiment, read_experiment
from product_cls.report.notes import gaps, headline, method_notes
from product_cls.report.page import build_page
from product_cls.report.plots import result_figure
from product_cls.report.published import published_table
from product_cls.report.summary import (
    Summary,
    csv_table,
    result_table,
    summarise_experiment,
    view_table,
)


@dataclass
class Arguments:
    """What a sweep has shown so far: a table, a plot and a page, finished or not.

    runs: the sweep's folder, multirun/NAME.
    out: where to write; null: RUNS/report.
    baseline: the row that others are compared with, by its name in the table or as typed
      (exclude=[]); null: nothing left out, else the sweep's first.
    published: recipe_a or none; null: recipe_a where the sweep varies `exclude` alone.
    tta: of the scores averaged over test-time augmentation, or of the pictures as they are.
    by_product: resample products with all their pictures (right or wrong together) for intervals
      and p-values; false takes pictures for independent.
    """

    runs: str = MISSING
    out: str | None = None
    baseline: str | None = None
    published: str | None = None
    tta: bool = True
    by_product: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report")
    root = Path(arguments.runs)
    experiment = read_experiment(root, tta=arguments.tta)
    published = arguments.published or ("recipe_a" if experiment.ablation else "none")
    summary = summarise_experiment(
        experiment,
        baseline=arguments.baseline,
        published=published_table(published),
        by_product=arguments.by_product,
    )
    out = Path(arguments.out) if arguments.out else root / "report"
    files, said = write_report(experiment, summary, out)
    for sentence in [*gaps(experiment), *experiment.notes, *said]:
        print(f"NOTE: {sentence}")
    print_table(result_table(experiment, summary), title=f"{root}: {headline(experiment)}")
    for sentence in method_notes(experiment, summary):
        print(sentence)
    print("Written: " + ", ".join(map(str, files)))


def write_report(
    experiment: Experiment, summary: Summary, out: Path
) -> tuple[list[Path], list[str]]:
    """All files of the report, each whole or not at all.

    Returns:
        The files, and sentences about what could not be shown.
    """
    page, said = build_page(experiment, summary)
    lacking = [f"- {sentence}" for sentence in [*gaps(experiment), *experiment.notes]]
    parts = [
        f"{headline(experiment)}.",
        "\n".join(lacking),
        markdown(result_table(experiment, summary)),
        "\n\n".join(method_notes(experiment, summary)),
        "![accuracy and differences](plot.png)",
    ]
    if summary.views:
        parts += ["Accuracy in % by view:", markdown(view_table(experiment, summary))]
    write_text_whole(out / "table.md", "\n\n".join(part.strip() for part in parts if part) + "\n")
    write_text_whole(out / "table.csv", csv_table(experiment, summary).round(6).to_csv(index=False))
    write_bytes_whole(out / "plot.png", png(result_figure(experiment, summary), dpi=200))
    write_text_whole(out / "report.html", page)
    return [out / name for name in ("table.md", "table.csv", "plot.png", "report.html")], said


if __name__ == "__main__":
    guard(main)
