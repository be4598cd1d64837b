"""An ensemble as a W&B run. Its inputs are the artifacts of the runs that it blends."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from product_cls.analysis.samples import read_samples
from product_cls.core.errors import reason
from product_cls.inference.predictions import Predictions, summarise
from product_cls.runs.folder import RunFolder
from product_cls.tracking.findings import find_in
from product_cls.tracking.wandb_run import SYNC, finish, run_artifacts, show, start, use


def keep_ensemble(
    project: str,
    group: str,
    folders: Sequence[RunFolder],
    out: Path,
    splits: Mapping[str, Predictions],
    table: pd.DataFrame,
    config: Mapping[str, Any],
) -> None:
    """Publish an ensemble as a W&B run in the sweep's group, with job type ``ensemble``.

    Errors are printed, not raised, because the ensemble itself is already written.

    Args:
        project: W&B project.
        group: name of the sweep.
        folders: of the runs in the vote, which become its inputs; one or more.
        out: folder of the ensemble, with ``predictions/`` and perhaps ``submission.csv``.
        splits: the blended predictions by split.
        table: the ensemble's table.
        config: the arguments of the command.
    """
    exit_code = 1
    try:
        run = start(
            project=project,
            group=group,
            name=f"ensemble of {len(folders)} run{'s' if len(folders) != 1 else ''}",
            job_type="ensemble",
            tags=["ensemble"],
            config={**config, "of": [str(folder.path) for folder in folders]},
            dir=str(out),
        )
        print(f"W&B: {f'offline, {SYNC}' if run.offline else run.url}.")
        for folder in folders:
            for artifact in run_artifacts(folder):
                use(run, artifact)
        record = {split: summarise(part, part.make_task()) for split, part in splits.items()}
        findings = find_in(record, out / "predictions" / "test.npz", _samples(folders[0]))
        show(run, findings, step=0)
        run.log({"result/table": wandb.Table(dataframe=table.astype(object))})
        for artifact in ensemble_artifacts(out, group):
            run.log_artifact(artifact)
        exit_code = 0
    except Exception as error:  # services raise many kinds
        print(f"W&B did not receive the whole ensemble ({reason(error)}); it is in {out}.")
    finally:
        finish(exit_code)


def _samples(folder: RunFolder) -> pd.DataFrame:
    try:
        return read_samples(folder)
    except Exception:  # readers raise many kinds, and tables do not need pictures
        return pd.DataFrame({"id": [], "path": []})


def ensemble_artifacts(out: Path, name: str) -> list[wandb.Artifact]:
    """The blended predictions and, if there is one, the submission."""
    name = re.sub(r"[^\w.-]", "-", name)
    predictions = wandb.Artifact(f"predictions-ensemble-{name}", type="predictions")
    for file in sorted((out / "predictions").glob("*.npz")):
        predictions.add_file(str(file), name=file.name)
    if not (out / "submission.csv").is_file():
        return [predictions]
    submission = wandb.Artifact(f"submission-{name}", type="submission")
    submission.add_file(str(out / "submission.csv"), name="submission.csv")
    return [predictions, submission]
