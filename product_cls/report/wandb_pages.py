"""What W&B shows of sweeps: a workspace for a project, and a report with a chapter a sweep.

Charts are W&B's own, of the runs that it has. What takes statistics (error bars over seeds, paired
differences, votes) is computed from the run folders and stands in the report as tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from product_cls.core.errors import UserError
from product_cls.display.tables import markdown
from product_cls.report.confusions import worst_pairs
from product_cls.report.experiment import Experiment, read_experiment
from product_cls.report.models import models_table, read_votes, readers_table
from product_cls.report.notes import gaps, headline, method_notes
from product_cls.report.published import published_table
from product_cls.report.summary import (
    Summary,
    result_table,
    summarise_experiment,
    view_table,
)
from product_cls.tracking.findings import pairs_table

STEP = wr.Metric("trainer/global_step")
ACCURACY = "result/test/accuracy"
# What a swept group of the config is called in a run's own config.
KEYS = {
    "model": "model.backbone",
    "data": "data.name",
    "optimizer": "optimizer._target_",
    "scheduler": "scheduler._target_",
}


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and what was computed from it; its name is the group in W&B."""

    name: str
    experiment: Experiment
    summary: Summary


def read_sweep(root: Path) -> Sweep:
    """The runs below ``root``, as ``python -m product_cls.report`` sees them.

    Raises:
        UserError: nothing there to report.
    """
    experiment = read_experiment(root)
    published = published_table("recipe_a" if experiment.ablation else "none")
    return Sweep(root.name, experiment, summarise_experiment(experiment, published=published))


def build_workspace(entity: str, project: str, views: Sequence[str] = ()) -> ws.Workspace:
    """Curves, test results and wrong pictures of a project's runs.

    Args:
        entity: a user or team of W&B.
        views: of the test part, for a chart that has them side by side.
    """
    by_view: list[Any] = [f"result/test/view_{view}/accuracy" for view in views]
    test: list[Any] = [wr.BarPlot(title="Test accuracy", metrics=[ACCURACY])]
    if by_view:
        test.append(wr.BarPlot(title="Test accuracy by view", metrics=by_view))
    return ws.Workspace(
        name="Products",
        entity=entity,
        project=project,
        sections=[
            ws.Section(
                name="Learning",
                is_open=True,
                panels=[
                    wr.LinePlot(title="Validation accuracy", x=STEP, y=["val/accuracy"]),
                    wr.LinePlot(title="Training loss", x=STEP, y=["train/loss_epoch"]),
                    wr.LinePlot(title="Validation loss", x=STEP, y=["val/loss"]),
                    wr.LinePlot(title="Learning rate", x=STEP, y=["lr"]),
                ],
            ),
            ws.Section(name="Test", is_open=True, panels=test),
            ws.Section(
                name="Mistakes",
                panels=[
                    wr.WeavePanelSummaryTable(table_name="result/worst_pairs"),
                    wr.WeavePanelSummaryTable(table_name="result/wrong_pictures"),
                ],
            ),
        ],
    )


def build_report(entity: str, project: str, sweeps: Sequence[Sweep]) -> wr.Report:
    """A chapter a sweep: its table with error bars, votes of model sizes, views, confused products,
    and W&B's charts of its runs."""
    blocks: list[Any] = [wr.TableOfContents()]
    for sweep in sweeps:
        blocks += _chapter(sweep)
    names = ", ".join(sweep.name for sweep in sweeps)
    return wr.Report(
        project=project, entity=entity, title=f"Products: {names}"[:128], blocks=blocks
    )


def _chapter(sweep: Sweep) -> list[Any]:
    experiment, summary = sweep.experiment, sweep.summary
    blocks: list[Any] = [wr.H1(sweep.name), wr.P(f"{headline(experiment)}.")]
    said: list[Any] = [*gaps(experiment), *experiment.notes]
    if said:
        blocks.append(wr.UnorderedList(said))

    def add(title: str, table: pd.DataFrame) -> None:
        if not table.empty:
            blocks.extend([wr.H2(title), wr.MarkdownBlock(markdown(table))])

    add("Test accuracy in %", result_table(experiment, summary))
    blocks += [wr.P(sentence) for sentence in method_notes(experiment, summary)]
    if votes := _votes(experiment):
        add("Model sizes: one fold, votes and test-time augmentation", votes[0])
    add("Test accuracy in % by view", view_table(experiment, summary))
    pairs = worst_pairs(experiment, summary.baseline)
    add(f"Products taken for each other: {experiment.rows[summary.baseline]}", pairs_table(pairs))
    blocks += [wr.H2("Runs"), _charts(sweep)]
    return blocks


def _votes(experiment: Experiment) -> list[pd.DataFrame]:
    """The table of model sizes, where the sweep is one of models and folds."""
    try:
        return [readers_table(models_table(experiment, read_votes(experiment)))]
    except UserError:  # it is not, or its runs cannot vote together
        return []


def _charts(sweep: Sweep) -> wr.PanelGrid:
    # Of the report's own project; to name it would ask W&B for it.
    runs = wr.Runset(
        name=sweep.name,
        filters=[expr.Metric("Group") == sweep.name, expr.Metric("JobType") != "ensemble"],
    )
    group: dict[str, Any] = {}
    if (key := _group_key(sweep.experiment)) is not None:
        group = {
            "groupby": wr.Config(key),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "stddev",
        }
    by_view: list[Any] = [f"result/test/view_{view}/accuracy" for view in sweep.summary.views]
    panels: list[Any] = [
        wr.BarPlot(title="Test accuracy, mean and sd", metrics=[ACCURACY], **group),
        wr.LinePlot(title="Validation accuracy", x=STEP, y=["val/accuracy"], **group),
    ]
    if by_view:
        panels.append(wr.BarPlot(title="Test accuracy by view", metrics=by_view, **group))
    return wr.PanelGrid(runsets=[runs], panels=panels)


def _group_key(experiment: Experiment) -> str | None:
    """The key of W&B's config that tells the rows apart; None where no single one does."""
    if len(experiment.factors) != 1:
        return None
    factor = experiment.factors[0].lstrip("+")
    key = KEYS.get(factor, factor)
    known = experiment.finished()[0].found
    return key if known is not None and key in known.settings else None


def spec(made: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What would be sent to W&B."""
    plain: dict[str, Any] = made._to_model().model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    return plain
