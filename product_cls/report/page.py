"""The HTML page of a report: one file, without scripts, that loads nothing from elsewhere.

``templates/report.html.j2`` holds the layout; this module prepares what it shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from product_cls.core.errors import without_login
from product_cls.display.style import png
from product_cls.display.tables import format_cell
from product_cls.report.confused_products import Confusions, confused_products, data_address
from product_cls.report.confusions import worst_pairs
from product_cls.report.experiment import Experiment
from product_cls.report.notes import gaps, headline, method_notes, right_sentence
from product_cls.report.plots import curves_figure, monitored, result_figure, view_figure
from product_cls.report.summary import Summary, result_table, view_table
from product_cls.report.sweep_plan import ExperimentRun

VERDICTS = ("helps", "hurts", "better", "worse", "negligible")  # cells with their own colour


@dataclass(frozen=True)
class Plot:
    """A plot on the page; ``source`` is a ``data:`` address."""

    alt: str
    source: str


@dataclass(frozen=True)
class Views:
    """Accuracy by view."""

    plot: Plot
    table: pd.DataFrame


@dataclass(frozen=True)
class Curves:
    """Learning curves.

    Attributes:
        plots: one per metric.
        baseline: name of the row that every panel shows in grey; "" if there is no other row.
        problem: why there are no plots; "" if there are.
    """

    plots: Sequence[Plot] = ()
    baseline: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Settings:
    """The resolved config of one run."""

    run: str
    text: str


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    name: str
    right: str
    headline: str
    gaps: list[str]
    notes: list[str]
    result: pd.DataFrame
    method_notes: list[str]
    result_plot: Plot
    views: Views | None
    curves: Curves
    confusions: Confusions
    facts: list[str]
    runs: pd.DataFrame
    settings: Settings | None


def build_page(experiment: Experiment, summary: Summary) -> tuple[str, list[str]]:
    """The page as HTML, and one sentence about each part that could not be shown."""
    curves = _curves(experiment, summary.baseline)
    confusions = _confusions(experiment, summary.baseline)
    views = None
    if summary.views:
        plot = _plot(view_figure(experiment, summary), "Accuracy by view")
        views = Views(plot, view_table(experiment, summary))
    page = Page(
        name=experiment.root.name or str(experiment.root.resolve().name),
        right=right_sentence(experiment, summary),
        headline=headline(experiment),
        gaps=gaps(experiment),
        notes=[note.text for note in experiment.notes],
        result=result_table(experiment, summary),
        method_notes=method_notes(experiment, summary),
        result_plot=_plot(
            result_figure(experiment, summary), "Accuracy and differences with 95 % intervals"
        ),
        views=views,
        curves=curves,
        confusions=confusions,
        facts=_facts(experiment),
        runs=_runs_table(experiment, summary),
        settings=_settings(experiment, summary.baseline),
    )
    html = render("report.html.j2", vars(page))
    return html, [section.problem for section in (curves, confusions) if section.problem]


def render(template: str, content: Mapping[str, Any]) -> str:
    """A page from a file in ``templates`` and what it shows."""
    environment = Environment(
        loader=PackageLoader("product_cls.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = format_cell
    # Macros of another file see only its globals.
    environment.globals["verdicts"] = VERDICTS
    return environment.get_template(template).render(content).lstrip()


def _plot(figure: Figure, alt: str) -> Plot:
    return Plot(alt, data_address(png(figure), "png"))


def _curves(experiment: Experiment, baseline: int) -> Curves:
    scales = {monitored(experiment.finished()): 100.0, "train/loss_epoch": 1.0}
    figures = {
        column: curves_figure(experiment, baseline, column, scale)
        for column, scale in scales.items()
    }
    plots = [_plot(figure, f"{column} by epoch") for column, figure in figures.items() if figure]
    if not plots:
        problem = "No learning curves: no run has logs/metrics.csv (logger=csv writes it)."
        return Curves(problem=problem)
    return Curves(plots, experiment.rows[baseline] if len(experiment.rows) > 1 else "")


def _confusions(experiment: Experiment, row: int) -> Confusions:
    finished = [run for run in experiment.runs[row] if run.done]
    return confused_products(experiment.rows[row], finished, worst_pairs(experiment, row))


def _facts(experiment: Experiment) -> list[str]:
    """Swept keys, settings that all runs share, and versions of the libraries."""
    versions = {
        ", ".join(f"{name} {version}" for name, version in run.metrics.get("versions", {}).items())
        for run in experiment.finished()
    }
    first = experiment.replicates[0].split(", ")
    replicate_keys = [part.partition("=")[0] for part in first if "=" in part]
    facts = {
        "swept": ", ".join([*experiment.factors, *replicate_keys]),
        "the same in all runs": without_login(" ".join(experiment.fixed)),
        "versions": "; ".join(filter(None, sorted(versions))),
    }
    return [f"{name}: {value}" for name, value in facts.items() if value]


def _runs_table(experiment: Experiment, summary: Summary) -> pd.DataFrame:
    return pd.DataFrame(
        [
            _run_row(run, summary.accuracy[r, s])
            for r, row in enumerate(experiment.runs)
            for s, run in enumerate(row)
        ]
    )


def _run_row(run: ExperimentRun, accuracy: float) -> dict[str, object]:
    seconds = run.metrics.get("seconds", {})
    best = run.status.get("value")
    return {
        "row": run.row,
        "run": run.replicate,
        "state": run.state.kind + (f": {run.state.reason}" if run.state.reason else ""),
        "best epoch": run.metrics.get("best_epoch") or "-",
        "epochs": run.metrics.get("epochs") or run.status.get("epoch") or "-",
        "validation": 100 * best if isinstance(best, float) else "-",
        "test": 100 * accuracy,
        "training": _duration(seconds.get("fit")),
        "predicting": _duration(seconds.get("predict")),
        "finished (UTC)": str(run.status.get("finished") or "-")[:16].replace("T", " "),
        "device": run.metrics.get("device", "-"),
    }


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _settings(experiment: Experiment, row: int) -> Settings | None:
    """The config of a row's first finished run."""
    for run in experiment.runs[row]:
        if run.done and run.settings is not None:
            if not run.settings.settings:  # missing, or not what a run writes
                return None
            text = run.settings.folder.config_file.read_text(encoding="utf-8")
            return Settings(f"{run.row}, {run.replicate}", without_login(text))
    return None
