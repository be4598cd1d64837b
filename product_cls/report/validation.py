"""Report on two kinds of validation: random folds and held-out views, each against the test.

python -m product_cls.report.validation runs=multirun/validation
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.files import check_place
from product_cls.runs.folder import find_runs


@dataclass
class Arguments:
    """Compare validation on random folds and on held-out views: which one predicts the test?

    runs: the sweep's folder, multirun/NAME, from python train.py -m sweep=validation.
    out: folder of the report; null: RUNS/report.
    csv: plain, or excel for a table that a spreadsheet opens right (numbers keep their zeros).
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    """

    runs: str = MISSING
    out: str | None = None
    csv: str = "plain"
    tta: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.validation")
    check_style(arguments.csv)
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds
    out = Path(arguments.out) if arguments.out else root / "report"
    check_place(out)
    # Imported here, so that --help and errors appear at once.
    from product_cls.report import validation_study
    from product_cls.report.notes import headline
    from product_cls.report.short_report import Block, reader_notes, write_report
    from product_cls.report.validation_figure import validation_figure

    study = validation_study.read_study(root, tta=arguments.tta)
    notes = [*reader_notes(study.experiment), *study.notes]
    blocks: list[Block] = [
        validation_study.verdict(study),
        ("Accuracy in % by setting", validation_study.settings_table(study)),
        ("Validation against test", validation_study.validation_table(study)),
        *validation_study.method_notes(study),
    ]
    figure = validation_figure(study.table, ", ".join(study.unseen))
    write_report(
        out, headline(study.experiment), notes, blocks, study.table, figure, csv=arguments.csv
    )


if __name__ == "__main__":
    guard(main)
