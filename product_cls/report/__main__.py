"""Report on a sweep's run folders: tables, a plot and a page. It reads only those folders.

python -m product_cls.report runs=multirun/ablation
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments


@dataclass
class Arguments:
    """Write tables, a plot and a page about a sweep, finished or not.

    runs: the sweep's folder, multirun/NAME.
    out: folder of the report; null: RUNS/report.
    baseline: the row to compare the others with, by its name in the table or as typed
      (exclude=[]); null: the row that leaves nothing out, else the sweep's first row.
    published: recipe_a or none; null: recipe_a if the sweep varies only `exclude`.
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    by_product: for intervals and p-values, resample products with all their pictures, which are
      right or wrong together; false: treat pictures as independent.
    """

    runs: str = MISSING
    out: str | None = None
    baseline: str | None = None
    published: str | None = None
    tta: bool = True
    by_product: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report")
    # Imported here, so that --help and errors appear at once.
    from product_cls.display.tables import print_table
    from product_cls.report.experiment import read_experiment
    from product_cls.report.experiment_report import write_experiment_report
    from product_cls.report.notes import gaps, headline, method_notes
    from product_cls.report.published import published_table
    from product_cls.report.summary import result_table, summarise_experiment

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
    files, problems = write_experiment_report(experiment, summary, out)
    for sentence in [*gaps(experiment), *(note.text for note in experiment.notes), *problems]:
        print(f"NOTE: {sentence}")
    print_table(result_table(experiment, summary), title=f"{root}: {headline(experiment)}")
    for sentence in method_notes(experiment, summary):
        print(sentence)
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
