"""Learning rates of the schedules in ``conf/scheduler``, as tables and plots."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from product_cls.config.compose import compose_config, group_files
from product_cls.config.instantiate import build, try_out
from product_cls.core.errors import UserError
from product_cls.display.style import BLUE, GREY, INK, PALE

COLUMNS = 3  # panels in a row of the plot
SHOWN = 10  # intervals between the steps that are printed


def known_schedules() -> list[str]:
    """Names of the files in ``conf/scheduler`` and in the user's own folder, sorted."""
    return list(group_files("scheduler"))


def schedule_names(value: Any) -> list[str]:
    """Names of schedules from the value of ``scheduler=...``.

    Raises:
        UserError: there is no file of that name.
    """
    files = known_schedules()
    if value == "all":
        return files
    names = [str(name) for name in value] if isinstance(value, list) else [str(value)]
    for name in names:
        if name not in files:
            raise UserError(f"scheduler={name}; allowed: {', '.join(files)}, a list, or all.")
    if not names:
        raise UserError(f"scheduler=[] names none; allowed: {', '.join(files)}, a list, or all.")
    return names


def load_schedule(name: str, arguments: dict[str, Any]) -> Any:
    """A schedule as a run builds it: a function of an optimiser and the number of steps.

    Args:
        name: a file in ``conf/scheduler``.
        arguments: override those in the file.
    """
    return build(compose_config([f"scheduler={name}"]).scheduler, **arguments)


def learning_rates(schedule: Any, steps: int, lr: float) -> np.ndarray:
    """The learning rate of each step and after the last step, float64 ``[steps + 1]``.

    Raises:
        UserError: an argument that the schedule does not accept.
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
    """Learning rates at about ``SHOWN`` steps, from first to last; one column per schedule.

    Args:
        rates: learning rates by schedule, float64 ``[steps + 1]`` each.
        steps_per_epoch: optimiser steps per epoch.
    """
    steps = len(next(iter(rates.values()))) - 1
    shown = np.unique(np.linspace(0, steps, SHOWN + 1).round().astype(int))
    table = {"step": shown.astype(str), "epoch": (shown / steps_per_epoch).round(2)}
    return pd.DataFrame(
        table | {name: [f"{values[k]:.3g}" for k in shown] for name, values in rates.items()}
    )


def schedule_figure(rates: dict[str, np.ndarray], steps_per_epoch: int) -> Figure:
    """Learning rate by epoch, one panel per schedule, all on one scale; see ``rate_table``."""
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
