"""The results of a study: a table, plots and the command of the best trial."""

import warnings
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from product_cls.core.files import write_bytes_whole, write_text_whole
from product_cls.core.tables import write_csv
from product_cls.display.tables import markdown, print_table
from product_cls.runs.folder import RunFolder
from product_cls.tune.study import Search
from product_cls.tune.trials import FAILURES

SHOWN = 10  # trials in the table that is printed


def trials_table(search: Search) -> pd.DataFrame:
    """A row per trial: complete ones from best to worst, then pruned, failed and unfinished ones.

    ``value`` is the best validation result of the trial's epochs.
    """
    rows = []
    for trial in search.study.get_trials(deepcopy=False):
        steps = trial.intermediate_values
        rows.append(
            {
                "trial": trial.number,
                "state": state_name(trial),
                "value": trial.value
                if trial.value is not None
                else max(steps.values(), default=None),
                "epochs": max(steps, default=0),
                **{key: trial.params.get(key) for key in search.space},
                "folder": search.path(trial.number).name,
                "error": trial.user_attrs.get("error", ""),
            }
        )
    table = pd.DataFrame(rows)
    order = ["complete", "pruned", "failed", "interrupted"]
    ranked = table.assign(rank=table["state"].map(order.index))
    ranked = ranked.sort_values(["rank", "value", "trial"], ascending=[True, False, True])
    return ranked.drop(columns="rank").reset_index(drop=True)


def state_name(trial: FrozenTrial) -> str:
    """A trial's state; ``interrupted`` if it still runs according to the study."""
    names = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return names.get(trial.state, "interrupted")


def shown_value(value: Any) -> Any:
    """A value for display, with 4 significant digits: 2 decimals would show 0.0003 as 0.00."""
    if value is None or value != value:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else value


def report(search: Search) -> bool:
    """Write ``table.csv``, ``table.md`` and plots to the study's folder, and print the best trial.

    Returns:
        Whether there is a best trial, that is, any complete one.
    """
    if not search.study.get_trials(deepcopy=False):
        return False
    table = trials_table(search)
    write_csv(search.folder / "table.csv", table)
    shown = table.map(shown_value)
    write_text_whole(search.folder / "table.md", markdown(shown))
    print_table(
        shown.head(SHOWN).drop(columns=["error"]), f"The {SHOWN} best trials" * (len(table) > SHOWN)
    )
    counts = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
    print(f"{len(table)} trials: {counts} -> {search.folder / 'table.md'}")
    complete = search.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        print("No trial is complete, so there is no best trial and nothing to plot.")
        return False
    # matplotlib is slow to import.
    from product_cls.display.style import png
    from product_cls.tune.figures import figures

    plots = figures(search.study, search.space, importances(search.study))
    for name, figure in plots.items():
        write_bytes_whole(search.folder / f"{name}.png", png(figure))
    print(f"Plots: {', '.join(f'{name}.png' for name in plots)}")
    best = search.study.best_trial
    print(f"Best: trial {best.number}, {best.value:.4f}. To train it again in its own folder:")
    print(search.command(best))
    return True


def shortfall(search: Search, total: int) -> str | None:
    """A sentence about why a search ended with fewer than ``total`` trials; None if it did not."""
    if search.missing(total) <= 0:
        return None
    last = search.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))[-1]
    log = RunFolder(search.path(last.number)).console_file
    error = str(last.user_attrs["error"]).rstrip(".")
    return (
        f"{FAILURES} trials have failed and none has succeeded; the last: {error} (log: {log}). "
        "Fix the cause and run the same command to continue the search."
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """The importance of each key for the trials' values (Watanabe et al. 2023, PED-ANOVA).

    Returns:
        Importances that sum to 1; empty if the trials are too few or too similar.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # too few trials: all would be equal
            return optuna.importance.get_param_importances(study)
    except (RuntimeError, ValueError, UserWarning):
        return {}
