"""The W&B workspace and report, built without a network and parsed by W&B's own models."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_sweeps import write_ablation

pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")

from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces.interface import Workspace
from wandb_workspaces.workspaces.internal import View

from product_cls.report import dashboard
from product_cls.report.published import RECIPE_A


def test_workspace_and_report_of_an_ablation(tmp_path: Path, run_command: Any) -> None:
    root = write_ablation(tmp_path / "ablation", products=12, pictures=12)
    status, out, err = run_command(dashboard.main)(
        "entity=me", "project=shop", f"runs={root}", f"out={tmp_path / 'out'}", "save=false"
    )
    assert status == 0, err
    assert "report.json" in out

    text = (tmp_path / "out" / "report.json").read_text()
    report = ReportViewspec.model_validate_json(text)  # parsed as W&B's library parses it
    assert report.project.entity_name == "me" and report.project.name == "shop"
    blocks = json.loads(text)["spec"]["blocks"]
    tables = [b["content"] for b in blocks if b["type"] == "markdown-block"]
    accuracy = tables[0].splitlines()
    assert "| left out | accuracy | sd | 95 % (runs) |" in accuracy[0]
    assert len(accuracy) == 2 + len(RECIPE_A)
    assert tables[1].startswith("| row | view 0 | view 30 | view 60 |")
    assert tables[2].startswith("| shown | taken for |")
    (grid,) = [b for b in blocks if b["type"] == "panel-grid"]
    runset = json.dumps(grid["metadata"]["runSets"])
    assert '"ablation"' in runset and '"ensemble"' in runset
    bars = next(
        p
        for p in grid["metadata"]["panelBankSectionConfig"]["panels"]
        if p["viewType"] == "Bar Chart"
    )
    config = bars["config"]
    assert config["metrics"] == ["result/test/accuracy"]
    assert (config["groupBy"], config["groupArea"]) == ("exclude.value", "stddev")

    view = View.model_validate_json((tmp_path / "out" / "workspace.json").read_text())
    workspace = Workspace._from_model(view)
    panels = {section.name: section.panels for section in workspace.sections}
    assert [metric.name for metric in panels["Learning"][0].y] == ["val/accuracy"]
    assert len(panels["Test"][1].metrics) == 3
    assert [p.table_name for p in panels["Mistakes"]] == [
        "result/worst_pairs",
        "result/wrong_pictures",
    ]


def test_a_missing_sweep(tmp_path: Path, run_command: Any) -> None:
    words = ("entity=me", "project=shop", f"runs={tmp_path / 'nothing'}", "save=false")
    status, _, err = run_command(dashboard.main)(*words)
    assert status == 2 and "There is no folder" in err
