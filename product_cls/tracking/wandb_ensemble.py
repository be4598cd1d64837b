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
from product_cls.runs.folder import RunFolder, find_runs
from product_cls.tracking.findings import find_in
from product_cls.tracking.wandb_run import SYNC, finish, run_artifacts, show, start, use


def keep_ensemble(
    project: str,
    roots: Sequence[Path],
    out: Path,
    splits: Mapping[str, Predictions],
    table: pd.DataFrame,
    config: Mapping[str, Any],
    weights: Sequence[float] | None = None,
) -> None:
    """Publish an ensemble as a W&B run in the sweep's group, with job type ``ensemble``.

    Errors are printed, not raised, because the ensemble itself is already written.

    Args:
        project: W&B project.
        roots: folders of the sweeps.
        out: folder of the ensemble, with ``predictions/`` and perhaps ``submission.csv``.
        splits: the blended predictions by split.
        table: the ensemble's table.
        config: the arguments of the command.
        weights: of the finished runs, in the order of the folders; runs with weight 0 are not
            inputs.
    """
    exit_code = 1
    try:
        folders = [f for root in roots for f in find_runs(root) if f.state().kind == "done"]
        if weights is not None:  # zip raises if another run has finished meanwhile
            folders = [f for f, weight in zip(folders, weights, strict=True) if weight > 0]
        run = start(
            project=project,
            group=roots[0].name,
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
        for artifact in ensemble_artifacts(out, roots[0].name):
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
