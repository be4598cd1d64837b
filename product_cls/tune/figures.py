"""Plots of a study, in the colours of the other reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from product_cls.display.style import BLUE, GREY, INK, VERMILION, open_panel


def figures(
    study: optuna.Study, space: Mapping[str, BaseDistribution], importances: Mapping[str, float]
) -> dict[str, Figure]:
    """All plots of a study by name.

    Args:
        study: has at least one complete trial.
        space: distributions by key of train.py.
        importances: importance of each key, summing to 1; if empty, its plot is left out.
    """
    plots = {
        "history": history_figure(study),
        "epochs": epochs_figure(study),
        "slices": slices_figure(study, space),
        "parallel": parallel_figure(study, space),
    }
    if importances:
        plots["importances"] = importances_figure(importances)
    return plots


def _trials(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def _best_value(trial: FrozenTrial) -> float:
    """The best value of a trial's epochs; NaN if it finished none."""
    if trial.value is not None:
        return float(trial.value)
    return max(trial.intermediate_values.values(), default=float("nan"))


def _dots(axes: Axes, x: Sequence[Any], trials: Sequence[FrozenTrial], complete: bool) -> None:
    axes.plot(
        x,
        [_best_value(trial) for trial in trials],
        "o",
        color=BLUE if complete else GREY,
        markerfacecolor=BLUE if complete else "white",
        markersize=4.5,
        alpha=0.8,
        label="complete" if complete else "pruned",
    )


def history_figure(study: optuna.Study) -> Figure:
    """The value of each trial in order, and the best value so far."""
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    open_panel(axes, "trial", "best validation value")
    complete, pruned = _trials(study, TrialState.COMPLETE), _trials(study, TrialState.PRUNED)
    numbers = [trial.number for trial in complete]
    best = np.maximum.accumulate([_best_value(trial) for trial in complete])
    axes.step(numbers, best, where="post", color=VERMILION, linewidth=1.4, label="best so far")
    _dots(axes, numbers, complete, True)
    _dots(axes, [trial.number for trial in pruned], pruned, False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)
    return figure


def epochs_figure(study: optuna.Study) -> Figure:
    """Best validation value so far by epoch: a line per trial, with a cross where it was pruned."""
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    open_panel(axes, "epoch", "best validation value so far")
    for state, colour in ((TrialState.PRUNED, GREY), (TrialState.COMPLETE, BLUE)):
        for trial in _trials(study, state):
            steps = sorted(trial.intermediate_values.items())
            if steps:
                epochs, values = zip(*steps, strict=True)
                axes.plot(epochs, values, color=colour, linewidth=1.0, alpha=0.7)
                end = "o" if state == TrialState.COMPLETE else "x"
                axes.plot(epochs[-1], values[-1], end, color=colour, markersize=4.5)
    best = study.best_trial
    steps = sorted(best.intermediate_values.items())
    if steps:
        label = f"best: trial {best.number}"
        axes.plot(*zip(*steps, strict=True), color=VERMILION, linewidth=1.8, label=label)
        axes.legend(frameon=False, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def importances_figure(importances: Mapping[str, float]) -> Figure:
    """A bar per key, the most important on top."""
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(6.0, 0.36 * len(ordered) + 0.9), layout="constrained")
    axes = figure.subplots()
    open_panel(axes, "importance", "")
    keys, shares = zip(*ordered, strict=True)
    axes.barh(keys, shares, color=BLUE, height=0.6)
    axes.set_xlim(0, 1)
    return figure


def slices_figure(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> Figure:
    """A panel per key: the value of each trial against the key's value."""
    columns = min(len(space), 3)
    lines = -(-len(space) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.5, 2.5 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[len(space) :]:
        axes.set_visible(False)
    for k, (axes, (key, distribution)) in enumerate(zip(panels, space.items(), strict=False)):
        open_panel(axes, key, "best validation value" if k % columns == 0 else "")
        categories = isinstance(distribution, CategoricalDistribution)
        for state in (TrialState.PRUNED, TrialState.COMPLETE):
            trials = [trial for trial in _trials(study, state) if key in trial.params]
            x = [
                distribution.to_internal_repr(t.params[key]) if categories else t.params[key]
                for t in trials
            ]
            _dots(axes, x, trials, state == TrialState.COMPLETE)
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            axes.set_xticks(range(len(choices)), [str(c) for c in choices], rotation=20)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def parallel_figure(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> Figure:
    """Parallel coordinates: a line per complete trial through its values; better is darker."""
    trials = sorted(_trials(study, TrialState.COMPLETE), key=_best_value)
    keys = list(space)
    figure = Figure(figsize=(1.7 * (len(keys) + 1) + 1.0, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    values = np.array([_best_value(trial) for trial in trials])
    spread = values.max() - values.min()
    scaled = (values - values.min()) / spread if spread else np.ones(len(values))
    for trial, goodness in zip(trials, scaled, strict=True):
        # Studies from earlier versions may have trials that lack values; their lines have gaps.
        line = [
            _place(space[key], trial.params[key]) if key in trial.params else np.nan for key in keys
        ]
        colour = VERMILION if trial is trials[-1] else BLUE
        axes.plot([*line, goodness], color=colour, alpha=0.15 + 0.75 * goodness, linewidth=1.3)
    for k, key in enumerate(keys):
        axes.axvline(k, color=GREY, linewidth=0.8)
        for height, text in _scale(space[key]):
            axes.annotate(
                text,
                (k, height),
                fontsize=7,
                color=INK,
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
    axes.axvline(len(keys), color=GREY, linewidth=0.8)
    for height, number in ((0.0, values.min()), (1.0, values.max())):
        axes.annotate(
            f"{number:.4f}",
            (len(keys), height),
            fontsize=7,
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    axes.set_xticks(range(len(keys) + 1), [*keys, "value"], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    return figure


def _place(distribution: Any, value: Any) -> float:
    """A value's height on its axis, 0 (lowest) to 1 (highest); choices keep their order."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.to_internal_repr(value) / max(1, len(distribution.choices) - 1)
    low, high = distribution.low, distribution.high
    if low == high:
        return 0.5
    if distribution.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / (high - low))


def _scale(distribution: Any) -> list[tuple[float, str]]:
    """Heights (0 to 1) and texts of an axis's labels."""
    if isinstance(distribution, CategoricalDistribution):
        return [(_place(distribution, choice), str(choice)) for choice in distribution.choices]
    ends = (distribution.low, distribution.high)
    return [(_place(distribution, end), f"{end:.4g}") for end in ends]
