"""Plot and print learning-rate schedules before training.

python -m product_cls.report.schedule scheduler=cosine_restarts
python -m product_cls.report.schedule 'scheduler=[cosine,polynomial]' 'arguments={warmup: 0.1}'
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError


@dataclass
class Arguments:
    """Plot schedules of conf/scheduler side by side and print their values at some steps.

    scheduler: one name or several, [cosine,cosine_restarts]; all: every schedule.
    arguments: override those in the files: arguments={warmup: 0.1}; all schedules must accept them.
    epochs: length of the run.
    steps_per_epoch: optimiser steps per epoch, that is, training pictures / data.batch_size.
    lr: the optimiser's learning rate.
    out: the plot, a PNG file.
    """

    scheduler: Any = "all"
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int = 20
    steps_per_epoch: int = 100
    lr: float = 1e-3
    out: str = "schedule.png"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.schedule")
    for key in ("epochs", "steps_per_epoch"):
        if (value := getattr(arguments, key)) < 1:
            raise UserError(f"{key}={value}; allowed: 1 or more.")
    if arguments.lr <= 0:
        raise UserError(f"lr={arguments.lr}; it must be above 0.")
    # Imported here, so that --help and errors appear at once.
    from product_cls.core.files import write_bytes_whole
    from product_cls.display.style import png
    from product_cls.display.tables import print_table
    from product_cls.report import schedule_plot

    steps = arguments.epochs * arguments.steps_per_epoch
    rates = {}
    for name in schedule_plot.schedule_names(arguments.scheduler):
        schedule = schedule_plot.load_schedule(name, arguments.arguments)
        rates[name] = schedule_plot.learning_rates(schedule, steps, arguments.lr)
    out = Path(arguments.out)
    figure = schedule_plot.schedule_figure(rates, arguments.steps_per_epoch)
    write_bytes_whole(out, png(figure))
    table = schedule_plot.rate_table(rates, arguments.steps_per_epoch)
    print_table(table, title=f"learning rate over {steps} steps")
    print(f"Written: {out}")


if __name__ == "__main__":
    guard(main)
