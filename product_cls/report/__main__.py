"""Report on a sweep's run folders: tables, a plot and a page. It reads only those folders.

python -m product_cls.report runs=multirun/ablation
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.errors import UserError
from product_cls.core.files import check_place
from product_cls.runs.folder import find_runs


@dataclass
class Arguments:
    """Write tables, a plot and a page about a run or a sweep, finished or not.

    Without a test that has labels, the report is about the held-out pictures.

    runs: the sweep's folder, multirun/NAME.
    out: folder of the report; null: RUNS/report.
    baseline: the row to compare the others with, by its name in the table or as typed
      (exclude=[]); null: the row that leaves nothing out, else the sweep's first row.
    published: recipe_a or none; null: recipe_a if the sweep varies only `exclude`.
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    failed: also show failed attempts of settings that the sweep does not plan.
    csv: plain, or excel for tables that a spreadsheet opens right (numbers keep their zeros).
    margin: a difference is negligible if its whole interval is within so many points, above 0.
    by_product: for intervals and p-values, resample products with all their pictures, which are
      right or wrong together; false: treat pictures as independent.
    """

    runs: str = MISSING
    out: str | None = None
    baseline: str | None = None
    published: str | None = None
    tta: bool = True
    margin: float = 1.0
    by_product: bool = True
    failed: bool = False
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report")
    check_style(arguments.csv)
    if not 0 < arguments.margin < 100:
        raise UserError(f"margin={arguments.margin:g}; allowed: points above 0 and below 100.")
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds
    out = Path(arguments.out) if arguments.out else root / "report"
    check_place(out)
    # Imported here, so that --help and errors appear at once.
    from product_cls.display.outputs import results_in
    from product_cls.report.held_out import has_labelled_test

    with results_in(out):
        if has_labelled_test(root):
            _report_test(arguments, root, out)
        else:
            _report_held_out(arguments, root, out)


def _report_test(arguments: Arguments, root: Path, out: Path) -> None:
    from product_cls.display.tables import print_table
    from product_cls.report.experiment import read_experiment
    from product_cls.report.experiment_report import write_experiment_report
    from product_cls.report.notes import gaps, headline, method_notes, right_sentence
    from product_cls.report.published import published_table
    from product_cls.report.summary import result_table, summarise_experiment

    experiment = read_experiment(root, tta=arguments.tta, failed=arguments.failed)
    published = arguments.published or ("recipe_a" if experiment.ablation else "none")
    summary = summarise_experiment(
        experiment,
        baseline=arguments.baseline,
        published=published_table(published),
        by_product=arguments.by_product,
        margin=arguments.margin / 100,
    )
    files, problems = write_experiment_report(experiment, summary, out, csv=arguments.csv)
    print(right_sentence(experiment, summary))
    print_table(result_table(experiment, summary), title=f"{root}: {headline(experiment)}")
    for sentence in gaps(experiment):
        print(f"NOTE: {sentence}")
    for sentence in [*method_notes(experiment, summary), *(n.text for n in experiment.notes)]:
        print(sentence)
    for sentence in problems:
        print(f"NOTE: {sentence}")
    print("Written: " + ", ".join(map(str, files)))


def _report_held_out(arguments: Arguments, root: Path, out: Path) -> None:
    from product_cls.display.tables import print_table
    from product_cls.report.held_out import pictures_table, read_held_out, settings_table
    from product_cls.report.held_out_report import METHOD, TITLE, write_held_out_report

    study = read_held_out(root, tta=arguments.tta, failed=arguments.failed)
    row = study.row(arguments.baseline)
    files, problems = write_held_out_report(study, row, out, csv=arguments.csv)
    print(f"{study.headline()}.")
    print_table(settings_table(study), title=f"{root}: {TITLE}")
    doubtful = pictures_table(row).head(5)
    print_table(doubtful, title=f"the most doubtful pictures of '{row.name}'")
    print(METHOD)
    for sentence in [*study.notes, *problems]:
        print(f"NOTE: {sentence}")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    guard(main)
