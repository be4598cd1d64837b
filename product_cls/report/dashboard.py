"""Create a workspace in a W&B project and a W&B report on sweeps.

python -m product_cls.report.dashboard entity=ME project=product_cls runs=multirun/ablation
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.core.files import write_text_whole


@dataclass
class Arguments:
    """Create a workspace in a W&B project and a report on sweeps. Needs a key (`wandb login`).

    entity: your user or team.
    project: as in logger.wandb.project.
    runs: a sweep's folder, multirun/NAME, or several, as [multirun/ablation,multirun/models]; null:
      no report.
    out: folder for copies of the workspace and the report: workspace.json, report.json.
    save: false only writes these files, which needs neither network nor key.
    """

    entity: str = MISSING
    project: str = MISSING
    runs: Any = None
    out: str = "multirun/dashboard"
    save: bool = True


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.report.dashboard")
    try:
        from product_cls.report import wandb_pages
    except ModuleNotFoundError:
        raise missing_extra("This command needs wandb-workspaces", "dashboard") from None
    roots = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    sweeps = [wandb_pages.read_sweep(Path(str(root))) for root in roots if root is not None]
    views = list(dict.fromkeys(view for sweep in sweeps for view in sweep.summary.views))
    workspace = wandb_pages.build_workspace(arguments.entity, arguments.project, views)
    documents: dict[str, Any] = {"workspace": workspace}
    if sweeps:
        report = wandb_pages.build_report(arguments.entity, arguments.project, sweeps)
        documents["report"] = report
    for name, document in documents.items():
        file = Path(arguments.out) / f"{name}.json"
        write_text_whole(file, json.dumps(wandb_pages.spec(document), indent=2) + "\n")
        print(f"Written: {file}")
        if arguments.save:
            try:
                document.save()
            except Exception as error:  # W&B, its library and the network raise many kinds
                raise UserError(
                    f"W&B did not accept the {name}: {reason(error)}; see {file}."
                ) from error
            print(f"In W&B: {document.url}")


if __name__ == "__main__":
    guard(main)
