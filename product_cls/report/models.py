"""Report on a sweep over models and folds: single folds, votes and test-time augmentation.

python -m product_cls.report.models runs=multirun/models
"""

from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.files import check_place
from product_cls.runs.folder import find_runs


@dataclass
class Arguments:
    """Compare models by single folds, by the vote of their folds and by test-time augmentation.

    runs: the sweep's folder, multirun/NAME, from python train.py -m sweep=models.
    out: folder of the report; null: RUNS/report.
    csv: plain, or excel for a table that a spreadsheet opens right (numbers keep their zeros).
    """

    runs: str = MISSING
    out: str | None = None
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.models")
    check_style(arguments.csv)
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds
    out = Path(arguments.out) if arguments.out else root / "report"
    check_place(out)
    # Imported here, so that --help and errors appear at once.
    from product_cls.report import model_votes
    from product_cls.report.experiment import read_experiment
    from product_cls.report.models_figure import models_figure
    from product_cls.report.notes import headline
    from product_cls.report.short_report import Block, reader_notes, write_report

    experiment = read_experiment(root)
    table = model_votes.models_table(experiment, model_votes.read_votes(experiment))
    blocks: list[Block] = [
        ("Test accuracy in %", model_votes.readers_table(table)),
        *model_votes.method_notes(experiment, table),
        ("Votes with TTA, accuracy in % by view", model_votes.views_table(table)),
        model_votes.published_reference(table),
    ]
    notes = reader_notes(experiment)
    write_report(
        out, headline(experiment), notes, blocks, table, models_figure(table), csv=arguments.csv
    )


if __name__ == "__main__":
    guard(main)
