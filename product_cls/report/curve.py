"""The difference between two settings against a third, such as mixing against epochs.

python -m product_cls.report.curve runs=multirun/mixing compare=mix x=trainer.max_epochs
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.files import check_place
from product_cls.runs.folder import find_runs


@dataclass
class Arguments:
    """Draw the difference between two values of one setting against another setting.

    Both settings are swept; for each combination of further swept settings there is a curve.

    runs: the sweep's folder, multirun/NAME.
    compare: a swept setting with two values; the difference is the first minus the second.
    x: a swept setting of numbers, the horizontal axis.
    out: folder of the report; null: RUNS/curve.
    tta: use scores averaged over test-time augmentation; false: those of unaugmented pictures.
    csv: plain, or excel for a table that a spreadsheet opens right (numbers keep their zeros).
    """

    runs: str = MISSING
    compare: str = MISSING
    x: str = MISSING
    out: str | None = None
    tta: bool = True
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.curve")
    check_style(arguments.csv)
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds
    out = Path(arguments.out) if arguments.out else root / "curve"
    check_place(out)
    # Imported here, so that --help and errors appear at once.
    from product_cls.report import curve_study
    from product_cls.report.experiment import read_experiment
    from product_cls.report.notes import headline
    from product_cls.report.short_report import Block, reader_notes, write_report

    experiment = read_experiment(root, tta=arguments.tta)
    study = curve_study.read_curves(experiment, arguments.compare, arguments.x)
    blocks: list[Block] = [
        (f"Test accuracy in %, difference: {study.title}", curve_study.readers_table(study)),
        ("Difference in points by view", curve_study.views_table(study)),
        ("Behind it", curve_study.causes_table(study)),
        *curve_study.method_notes(study, experiment),
    ]
    write_report(
        out,
        headline(experiment),
        reader_notes(experiment),
        blocks,
        curve_study.csv_table(study),
        curve_study.curve_figure(study),
        csv=arguments.csv,
    )


if __name__ == "__main__":
    guard(main)
