"""Weights & Biases: one W&B run per job, resumed with the job, synced later if offline."""

import inspect
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only
from requests.utils import get_netrc_auth

from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.files import digest
from product_cls.core.tables import csv_text
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker
from product_cls.tracking.findings import Findings, pairs_table, thumbnail

log = logging.getLogger(__name__)

FINISH_SECONDS = 300  # longest wait for uploads at the end of a run
SYNC = "`make wandb-sync` uploads it"
STEP = "trainer/global_step"
# The most characters that W&B takes.
LIMITS = {"name": 128, "group": 128, "job_type": 64}
TAG_LIMIT = 64
MODES = ("online", "offline", "disabled")


class WandbRun(Tracker, WandbLogger):
    """Lightning's W&B logger, with runs begun by ``start``.

    Args:
        save_dir: folder for ``wandb/``.
        mode: one of ``MODES``; None: the environment variable WANDB_MODE.
        offline: the same as ``mode="offline"``.
        arguments: passed on to ``WandbLogger`` and ``wandb.init``; ``tags`` are added to those of
            ``run_tags``.

    Raises:
        UserError: an unknown mode, or an argument that W&B does not accept or that ``start`` sets.
    """

    def __init__(
        self, *, save_dir: str, mode: str | None = None, offline: bool = False, **arguments: Any
    ) -> None:
        if mode not in (None, *MODES):
            raise UserError(f"logger.wandb.mode={mode}; allowed: {', '.join(MODES)}.")
        super().__init__(save_dir=save_dir, resume="allow", offline=offline, **arguments)
        del self._wandb_init["anonymous"]  # W&B warns about this argument whatever its value
        # Checked here, because W&B would refuse it only after training has begun.
        accepted = inspect.signature(wandb.init).parameters.keys() - {"settings"}
        if wrong := sorted(self._wandb_init.keys() - accepted):
            raise UserError(
                f"logger.wandb.{wrong[0]}=...: W&B has no such setting, or a run sets it."
            )
        self._wandb_init["mode"] = "offline" if offline else mode

    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        final = config["fold"] == "all"
        init = self._wandb_init
        init["job_type"] = init.get("job_type") or ("final" if final else "train")
        init["tags"] = [*run_tags(config), *(init.get("tags") or [])]
        init["config"] = dict(config)
        self._id = init["id"] = folder.status()["tracking_id"]
        init.update(within_limits(init))

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._take(start(**self._wandb_init))
        return self._experiment

    def _take(self, run: Any) -> None:
        self._experiment = run
        # W&B's own step counts calls, and a resumed run repeats some, so the x-axis of curves is
        # the optimiser step that Lightning logs.
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        run = self.experiment
        if run.disabled:
            return
        try:
            upload(run, folder, findings, folds)
        except Exception as error:  # from W&B or the network
            if run.offline:
                raise
            # W&B refused the artifacts before they were on disk. Therefore this run ends, and an
            # offline run with the same id, which W&B treats as its continuation, gets the results.
            log.warning("W&B cannot be reached (%s); %s.", reason(error), where_kept(folder.path))
            finish(0)
            offline = self._wandb_init | {"mode": "offline", "settings": patient_settings()}
            self._take(wandb.init(**offline))
            upload(self._experiment, folder, findings, folds)


def upload(run: Any, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
    """Log the results and artifacts of a finished run; online, wait until they have arrived.

    Raises:
        Exception: the upload failed; W&B raises several unrelated types.
    """
    show(run, findings, step=folder.metrics()["steps"])
    logged = [use(run, folds_artifact(folds))]
    for artifact in run_artifacts(folder):
        aliases = ["best"] if artifact.type == "model" else None
        logged.append(run.log_artifact(artifact, aliases=aliases))
    if not run.offline:
        for artifact in logged:
            artifact.wait(FINISH_SECONDS)


def run_tags(config: Mapping[str, Any]) -> list[str]:
    """Tags to filter runs by: data, network, fold."""
    words = [config["data"]["name"], config["model"]["backbone"], f"fold={config['fold']}"]
    return [str(word) for word in words]


def within_limits(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``wandb.init`` with names that W&B takes: longer ones end with a digest, so that
    different names stay different."""
    cut: dict[str, Any] = {
        key: shortened(str(arguments[key]), limit)
        for key, limit in LIMITS.items()
        if arguments.get(key) is not None
    }
    if arguments.get("tags"):
        tags = [shortened(str(tag), TAG_LIMIT) for tag in arguments["tags"]]
        cut["tags"] = [*dict.fromkeys(tag for tag in tags if tag)]
    return dict(arguments) | cut


def shortened(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters, of which the last 8 are a digest if it is cut."""
    return text if len(text) <= limit else f"{text[: limit - 9]}-{digest(text)[:8]}"


def start(*, mode: str | None = None, **arguments: Any) -> Any:
    """``wandb.init``, but offline if W&B has no key or cannot be reached.

    If the network fails later, W&B's own process retries; everything logged is on disk.

    Args:
        mode: one of ``MODES``; None: the environment variable WANDB_MODE.
        arguments: passed on to ``wandb.init``.

    Returns:
        The W&B run.
    """
    arguments = within_limits(arguments)
    sys.argv[:] = map(without_login, sys.argv)  # W&B stores them with the run
    settings = wandb.setup().settings  # include WANDB_MODE
    requested: Any = mode or settings.mode
    if requested == "disabled":
        return wandb.init(mode=requested, **arguments)
    if requested in ("offline", "dryrun") or not _has_key(settings):
        log.info("W&B is offline; %s.", where_kept(arguments["dir"]))
        return wandb.init(mode="offline", settings=patient_settings(), **arguments)
    try:
        return wandb.init(mode=requested, settings=patient_settings(), **arguments)
    except wandb.errors.Error as error:
        log.warning("W&B cannot be reached (%s); %s.", reason(error), where_kept(arguments["dir"]))
        return wandb.init(mode="offline", settings=patient_settings(), **arguments)


def where_kept(folder: Path | str) -> str:
    """Clause for messages: where an offline run is kept and how to sync it."""
    return f"the run is kept in {folder}/wandb and {SYNC}"


def patient_settings() -> wandb.Settings:
    """Settings by which W&B retries without limit in a run, and ``FINISH_SECONDS`` at its end."""
    return wandb.Settings(
        x_file_stream_retry_max=1_000_000,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
        quiet=True,
    )


def _has_key(settings: wandb.Settings) -> bool:
    """Whether W&B finds credentials: in the environment, its settings or a netrc file."""
    return bool(
        settings.api_key or settings.identity_token_file or get_netrc_auth(settings.base_url)
    )


def finish(exit_code: int) -> None:
    """End the W&B run of this process, if there is one.

    Data that is not uploaded within ``FINISH_SECONDS`` stays on disk.

    Args:
        exit_code: W&B shows a run as failed unless it is 0.
    """
    run = wandb.run
    if run is None:
        return
    file, online = Path(run.settings.sync_file), not run.offline
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # any type: training is over, and everything is on disk
        log.warning("W&B has not received the whole run yet (%s); %s.", reason(error), SYNC)
        return
    if online and not run.disabled:
        # W&B itself creates this mark of a received file only in `wandb sync`.
        file.with_name(f"{file.name}.synced").touch()


def show(run: Any, findings: Findings, step: int) -> None:
    """Log the results, charts and tables of a run or an ensemble.

    Args:
        run: the W&B run.
        step: optimiser step to log them at.
    """
    run.summary.update(dict(findings.results))
    shown: dict[str, Any] = {}
    if not findings.by_view.empty:
        table = wandb.Table(dataframe=findings.by_view)
        metric = str(findings.by_view.columns[1])
        title = f"test {metric} by view"
        shown["result/by_view"] = wandb.plot.bar(table, "view", metric, title=title)
    if findings.pairs:
        pairs = pairs_table(findings.pairs)
        pairs.insert(0, "picture", [_image(findings.paths.get(p.picture)) for p in findings.pairs])
        shown["result/worst_pairs"] = _table(pairs)
    if findings.wrong:
        shown["result/wrong_pictures"] = _table(wrong_table(findings))
    if shown:
        run.log(shown | {STEP: step})


def wrong_table(findings: Findings) -> pd.DataFrame:
    """One row per misclassified picture: target, decision, best answers and neighbours."""
    most = max(len(wrong.neighbours) for wrong in findings.wrong)
    rows = []
    for wrong in findings.wrong:
        row = {
            "picture": _image(wrong.path),
            "id": wrong.id,
            "view": wrong.view,
            "target": wrong.target,
            "decided": wrong.decided,
            "top": "\n".join(wrong.answers),
        }
        for k in range(most):
            near = wrong.neighbours[k] if k < len(wrong.neighbours) else None
            caption = f"{near.label}  {near.similarity:.3f}" if near else None
            row[f"neighbour {k + 1}"] = _image(near.path, caption) if near else None
        rows.append(row)
    return pd.DataFrame(rows)


def _table(frame: pd.DataFrame) -> wandb.Table:
    return wandb.Table(columns=list(map(str, frame)), data=[*frame.values.tolist()])


def _image(path: Path | str | None, caption: str | None = None) -> wandb.Image | None:
    picture = thumbnail(path)
    return None if picture is None else wandb.Image(picture, caption=caption, file_type="jpg")


def run_artifacts(folder: RunFolder) -> list[wandb.Artifact]:
    """Artifacts of a run's best checkpoint and its predictions.

    Their names and contents depend only on the run's files, so W&B recognises them if an ensemble
    logs them again.
    """
    tracking_id = folder.status().get("tracking_id") or digest(str(folder.path))
    artifacts = []
    if folder.best_checkpoint.is_file():
        model = wandb.Artifact(f"model-{tracking_id}", type="model")
        model.add_file(str(folder.best_checkpoint), name=folder.best_checkpoint.name)
        artifacts.append(model)
    predictions = wandb.Artifact(f"predictions-{tracking_id}", type="predictions")
    for file in sorted(folder.predictions_file("test").parent.glob("*.npz")):
        predictions.add_file(str(file), name=file.name)
    return [*artifacts, predictions]


def folds_artifact(folds: "pd.Series[int]") -> wandb.Artifact:
    """An artifact of the folds as CSV, ``id,fold``, named by a digest of its content."""
    text = csv_text(folds.reset_index())
    artifact = wandb.Artifact(f"folds-{digest(text)}", type="folds")
    with artifact.new_file("folds.csv") as file:
        file.write(text)
    return artifact


def use(run: Any, artifact: wandb.Artifact) -> wandb.Artifact:
    """Declare an artifact as an input of a run, even if W&B does not have it yet.

    ``Run.use_artifact`` refuses when offline and waits for the upload when online; the private
    method that it calls does neither.
    """
    logged: wandb.Artifact = run._log_artifact(
        artifact, is_user_created=True, use_after_commit=True
    )
    return logged
