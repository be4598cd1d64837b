"""Learning rates over a run, drawn and printed, before anything is trained.

python -m product_cls.report.schedule scheduler=cosine_restarts
python -m product_cls.report.schedule 'scheduler=[cosine,polynomial]' 'arguments={warmup: 0.1}'
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from product_cls.config.instantiate import build, try_out
from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import write_bytes_whole
from product_cls.display.style import BLUE, GREY, INK, PALE, png
from product_cls.display.tables import print_table

FOLDER = Path(__file__).parents[2] / "conf" / "scheduler"
COLUMNS = 3  # panels a line
SHOWN = 10  # intervals between the steps that are printed


@dataclass
class Arguments:
    """Schedules of conf/scheduler, drawn beside each other, with their values at some steps.

    scheduler: one name or several, [cosine,cosine_restarts]; all: every one.
    arguments: theirs, over what their files say: arguments={warmup: 0.1}; each must take them.
    epochs: length of the run.
    steps_per_epoch: optimiser steps an epoch, that is pictures to learn from / data.batch_size.
    lr: the optimiser's learning rate.
    out: the picture, a PNG file.
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
    steps = arguments.epochs * arguments.steps_per_epoch
    rates = {
        name: learning_rates(load_schedule(name, arguments.arguments), steps, arguments.lr)
        for name in chosen(arguments.scheduler)
    }
    out = Path(arguments.out)
    figure = schedule_figure(rates, arguments.steps_per_epoch)
    write_bytes_whole(out, png(figure))
    print_table(
        rate_table(rates, arguments.steps_per_epoch), title=f"learning rate over {steps} steps"
    )
    print(f"Written: {out}")


def chosen(given: Any) -> list[str]:
    """Names of schedules from ``scheduler=...``.

    Raises:
        UserError: a name without a file in conf/scheduler.
    """
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    assert known, f"{FOLDER} is part of the repository"
    if given == "all":
        return known
    names = [str(name) for name in given] if isinstance(given, list) else [str(given)]
    for name in names:
        if name not in known:
            raise UserError(f"scheduler={name}; allowed: {', '.join(known)}, a list, or all.")
    if not names:
        raise UserError(f"scheduler=[] names none; allowed: {', '.join(known)}, a list, or all.")
    return names


def load_schedule(name: str, arguments: dict[str, Any]) -> Any:
    """A schedule as a run would build it: a function of an optimiser and the number of steps.

    Args:
        name: of a file in conf/scheduler.
        arguments: over what the file says.
    """
    with initialize_config_dir(str(FOLDER.parent), version_base="1.3"):
        node = compose(f"scheduler/{name}").scheduler
    return build(node, **arguments)


def learning_rates(schedule: Any, steps: int, lr: float) -> np.ndarray:
    """The rate of each step and the one after the last, float64 ``[steps + 1]``.

    Raises:
        UserError: an argument that the schedule does not take.
    """

    def optimizer(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr)

    try_out(optimizer, schedule)
    stepper = optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = schedule(stepper, steps)
    rates = []
    for _ in range(steps + 1):
        rates.append(float(stepper.param_groups[0]["lr"]))
        stepper.step()
        scheduler.step()
    return np.array(rates)


def rate_table(rates: dict[str, np.ndarray], steps_per_epoch: int) -> pd.DataFrame:
    """A row for each of some steps, the first and the end among them; a column a schedule."""
    steps = len(next(iter(rates.values()))) - 1
    shown = np.unique(np.linspace(0, steps, SHOWN + 1).round().astype(int))
    table = {"step": shown.astype(str), "epoch": (shown / steps_per_epoch).round(2)}
    return pd.DataFrame(
        table | {name: [f"{values[k]:.3g}" for k in shown] for name, values in rates.items()}
    )


def schedule_figure(rates: dict[str, np.ndarray], steps_per_epoch: int) -> Figure:
    """A panel a schedule, all on one scale: learning rate by epoch."""
    columns = min(COLUMNS, len(rates))
    lines = -(-len(rates) // columns)
    figure = Figure(figsize=(2.7 * columns + 0.8, 2.1 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(rates) :]:
        axes.set_visible(False)
    for axes, (name, values) in zip(panels, rates.items(), strict=False):
        axes.plot(np.arange(len(values)) / steps_per_epoch, values, color=BLUE, linewidth=1.4)
        axes.set_title(name, fontsize=9, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, color=GREY, labelbottom=True)
        axes.grid(color=PALE, linewidth=0.5)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("learning rate", fontsize=9)
    return figure


if __name__ == "__main__":
    guard(main)
