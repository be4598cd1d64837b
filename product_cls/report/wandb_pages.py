"""A W&B workspace for a project, and a W&B report with one chapter per sweep.

W&B draws the charts from the runs it holds. Statistics that it cannot compute (intervals over
seeds, paired differences, votes) come from the run folders and appear as tables.
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
from product_cls.report.model_votes import models_table, read_votes, readers_table
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
# Swept config group -> the key that identifies it in a run's config.
KEYS = {
    "model": "model.backbone",
    "data": "data.name",
    "optimizer": "optimizer._target_",
    "scheduler": "scheduler._target_",
}


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep; its name is the group in W&B."""

    name: str
    experiment: Experiment
    summary: Summary


def read_sweep(root: Path) -> Sweep:
    """The results of the runs below ``root``, as ``python -m product_cls.report`` computes them.

    Raises:
        UserError: no run has finished.
    """
    experiment = read_experiment(root)
    published = published_table("recipe_a" if experiment.ablation else "none")
    return Sweep(root.name, experiment, summarise_experiment(experiment, published=published))


def build_workspace(entity: str, project: str, views: Sequence[str] = ()) -> ws.Workspace:
    """A workspace with curves, test results and mistakes of a project's runs.

    Args:
        entity: a user or team of W&B.
        views: of the test split; they add a chart of accuracy by view.
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
    """A report with one chapter per sweep: results with intervals, votes of models, accuracy by
    view, confused products, and W&B's charts of the runs."""
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
    notes: list[Any] = [*gaps(experiment), *(note.text for note in experiment.notes)]
    if notes:
        blocks.append(wr.UnorderedList(notes))

    def add(title: str, table: pd.DataFrame) -> None:
        if not table.empty:
            blocks.extend([wr.H2(title), wr.MarkdownBlock(markdown(table))])

    add("Test accuracy in %", result_table(experiment, summary))
    blocks += [wr.P(sentence) for sentence in method_notes(experiment, summary)]
    add("Models: one fold, votes and test-time augmentation", _votes(experiment))
    add("Test accuracy in % by view", view_table(experiment, summary))
    pairs = worst_pairs(experiment, summary.baseline)
    add(f"Products taken for each other: {experiment.rows[summary.baseline]}", pairs_table(pairs))
    blocks += [wr.H2("Runs"), _charts(sweep)]
    return blocks


def _votes(experiment: Experiment) -> pd.DataFrame:
    """The table of the models report; empty if the sweep does not vary models and folds, or if its
    runs cannot vote together."""
    try:
        return readers_table(models_table(experiment, read_votes(experiment)))
    except UserError:
        return pd.DataFrame()


def _charts(sweep: Sweep) -> wr.PanelGrid:
    # The report's own project is the default; naming it would send a request to W&B.
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
    """The key of W&B's config that distinguishes the rows; None if no single key does."""
    if len(experiment.factors) != 1:
        return None
    factor = experiment.factors[0].lstrip("+")
    key = KEYS.get(factor, factor)
    run = experiment.finished()[0].settings
    return key if run is not None and key in run.settings else None


def spec(document: ws.Workspace | wr.Report) -> dict[str, Any]:
    """The document in plain containers, as it is sent to W&B."""
    plain: dict[str, Any] = document._to_model().model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    return plain
