"""Report on two kinds of validation: random folds and held-out views, each against the test.

python -m product_cls.report.validation runs=multirun/validation
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments


@dataclass
class Arguments:
    """Compare validation on random folds and on held-out views: which one predicts the test?

    runs: the sweep's folder, multirun/NAME, from python train.py -m sweep=validation.
    out: folder of the report; null: RUNS/report.
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    """

    runs: str = MISSING
    out: str | None = None
    tta: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.validation")
    # Imported here, so that --help and errors appear at once.
    from product_cls.report import validation_study
    from product_cls.report.notes import headline
    from product_cls.report.short_report import Block, reader_notes, write_report
    from product_cls.report.validation_figure import validation_figure

    root = Path(arguments.runs)
    study = validation_study.read_study(root, tta=arguments.tta)
    notes = [*reader_notes(study.experiment), *study.notes]
    blocks: list[Block] = [
        validation_study.verdict(study),
        ("Accuracy in % by setting", validation_study.settings_table(study)),
        ("Validation against test", validation_study.validation_table(study)),
        *validation_study.method_notes(study),
    ]
    out = Path(arguments.out) if arguments.out else root / "report"
    figure = validation_figure(study.table, ", ".join(study.unseen))
    write_report(out, headline(study.experiment), notes, blocks, study.table, figure)


if __name__ == "__main__":
    guard(main)
