"""Weights & Biases: one run a job, that goes on when the job goes on, and waits when offline."""

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
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker
from product_cls.tracking.findings import Findings, pairs_table, thumbnail

log = logging.getLogger(__name__)

FINISH_SECONDS = 300  # to send what is not sent yet when a run has ended
SYNC = "`make wandb-sync` sends it"
STEP = "trainer/global_step"
MODES = ("online", "offline", "disabled")


class WandbRun(Tracker, WandbLogger):
    """Lightning's W&B logger for runs of this package, begun by ``start``.

    Args:
        save_dir: where ``wandb/`` is made.
        mode: one of ``MODES``; what WANDB_MODE says where None.
        offline: the same as ``mode="offline"``.
        arguments: of ``WandbLogger`` and ``wandb.init``; ``tags`` are added to the run's own.

    Raises:
        UserError: another mode, or an argument that W&B does not take or that ``start`` gives.
    """

    def __init__(
        self, *, save_dir: str, mode: str | None = None, offline: bool = False, **arguments: Any
    ) -> None:
        if mode not in (None, *MODES):
            raise UserError(f"logger.wandb.mode={mode}; allowed: {', '.join(MODES)}.")
        super().__init__(save_dir=save_dir, resume="allow", offline=offline, **arguments)
        del self._wandb_init["anonymous"]  # W&B warns of it, set or not
        # What it refuses it would refuse when training has begun.
        known = inspect.signature(wandb.init).parameters.keys() - {"settings"}
        if wrong := sorted(self._wandb_init.keys() - known):
            raise UserError(f"logger.wandb.{wrong[0]}=... is nothing that can be set.")
        self._wandb_init["mode"] = "offline" if offline else mode

    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        final = config["fold"] == "all"
        init = self._wandb_init
        init["job_type"] = init.get("job_type") or ("final" if final else "train")
        init["tags"] = [*run_tags(config), *(init.get("tags") or [])]
        init["config"] = dict(config)
        self._id = init["id"] = folder.status()["tracking_id"]

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._take(start(**self._wandb_init))
        return self._experiment

    def _take(self, run: Any) -> None:
        self._experiment = run
        # W&B numbers what it is sent, and a resumed run sends some steps again: curves go by the
        # optimiser's steps, as Lightning has them.
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)

    @rank_zero_only
    def publish(self, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
        run = self.experiment
        if run.disabled:
            return
        try:
            tell(run, folder, findings, folds)
        except Exception as error:  # of W&B or the network
            if run.offline:
                raise
            # Artifacts are refused before anything of them is on disk. So the run ends here, and
            # an offline one of the same id, which W&B takes for its continuation, has the results.
            log.warning("W&B cannot be reached (%s): %s.", reason(error), kept(folder.path))
            finish(0)
            again = self._wandb_init | {"mode": "offline", "settings": waiting()}
            self._take(wandb.init(**again))
            tell(self._experiment, folder, findings, folds)


def tell(run: Any, folder: RunFolder, findings: Findings, folds: "pd.Series[int]") -> None:
    """Results and artifacts of a finished run, all arrived where the run is online.

    Raises:
        Exception: of W&B's, of several kinds: they have not arrived.
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
    """What runs are filtered by: data, network, fold. (W&B allows 64 characters.)"""
    words = [config["data"]["name"], config["model"]["backbone"], f"fold={config['fold']}"]
    return [str(word)[:64] for word in words]


def start(*, mode: str | None = None, **arguments: Any) -> Any:
    """``wandb.init``, offline where W&B has no key or cannot be reached.

    When the network fails later, W&B's own process tries again; all that it is told is on disk.

    Args:
        mode: of W&B; what WANDB_MODE says where None.
        arguments: of ``wandb.init``.

    Returns:
        The run.
    """
    sys.argv[:] = map(without_login, sys.argv)  # which W&B keeps with the run
    known = wandb.setup().settings  # has what WANDB_MODE says
    chosen: Any = mode or known.mode
    if chosen == "disabled":
        return wandb.init(mode=chosen, **arguments)
    if chosen in ("offline", "dryrun") or not _has_key(known):
        log.info("W&B is offline: %s.", kept(arguments["dir"]))
        return wandb.init(mode="offline", settings=waiting(), **arguments)
    try:
        return wandb.init(mode=chosen, settings=waiting(), **arguments)
    except wandb.errors.Error as error:
        log.warning("W&B cannot be reached (%s): %s.", reason(error), kept(arguments["dir"]))
        return wandb.init(mode="offline", settings=waiting(), **arguments)


def kept(folder: Path | str) -> str:
    """Where what W&B does not get is, as part of a sentence."""
    return f"the run is kept in {folder}/wandb; {SYNC}"


def waiting() -> wandb.Settings:
    """How long W&B tries: while the run goes on for as long as it takes, after that bounded."""
    return wandb.Settings(
        x_file_stream_retry_max=1_000_000,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
        quiet=True,
    )


def _has_key(known: wandb.Settings) -> bool:
    """Whether W&B would find credentials: in the environment, its settings or a netrc file."""
    return bool(known.api_key or known.identity_token_file or get_netrc_auth(known.base_url))


def finish(outcome: int) -> None:
    """End this process's run, if there is one.

    What is not sent within ``FINISH_SECONDS`` stays on disk.

    Args:
        outcome: exit status; W&B shows others than 0 as failed.
    """
    run = wandb.run
    if run is None:
        return
    file, online = Path(run.settings.sync_file), not run.offline
    try:
        run.finish(exit_code=outcome)
    except Exception as error:  # of whatever kind: the run itself is over, and all is on disk
        log.warning("W&B has not got everything yet (%s); %s.", reason(error), SYNC)
        return
    if online and not run.disabled:
        # W&B's mark of a file that it has got, which it leaves after `wandb sync` alone.
        file.with_name(f"{file.name}.synced").touch()


def show(run: Any, findings: Findings, step: int) -> None:
    """Results, charts and tables of a run or an ensemble.

    Args:
        step: of the optimiser, that they are logged at.
    """
    run.summary.update(dict(findings.results))
    shown: dict[str, Any] = {}
    if not findings.by_view.empty:
        table = wandb.Table(dataframe=findings.by_view)
        measure = str(findings.by_view.columns[1])
        title = f"test {measure} by view"
        shown["result/by_view"] = wandb.plot.bar(table, "view", measure, title=title)
    if findings.pairs:
        pairs = pairs_table(findings.pairs)
        pairs.insert(0, "picture", [_image(findings.paths.get(p.picture)) for p in findings.pairs])
        shown["result/worst_pairs"] = _table(pairs)
    if findings.wrong:
        shown["result/wrong_pictures"] = _table(wrong_table(findings))
    if shown:
        run.log(shown | {STEP: step})


def wrong_table(findings: Findings) -> pd.DataFrame:
    """A row a wrong picture: it, what it shows, what it was taken for, the neighbours."""
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
    """A run's best checkpoint and its predictions. Made again from the same files they are the same
    artifacts to W&B, whoever makes them."""
    mark = folder.status().get("tracking_id") or digest(str(folder.path))
    artifacts = []
    if folder.best_checkpoint.is_file():
        model = wandb.Artifact(f"model-{mark}", type="model")
        model.add_file(str(folder.best_checkpoint), name=folder.best_checkpoint.name)
        artifacts.append(model)
    predictions = wandb.Artifact(f"predictions-{mark}", type="predictions")
    for file in sorted(folder.predictions_file("test").parent.glob("*.npz")):
        predictions.add_file(str(file), name=file.name)
    return [*artifacts, predictions]


def folds_artifact(folds: "pd.Series[int]") -> wandb.Artifact:
    """Which sample is held out when, ``id,fold``; named by its content."""
    text = folds.to_csv()
    artifact = wandb.Artifact(f"folds-{digest(text)}", type="folds")
    with artifact.new_file("folds.csv") as file:
        file.write(text)
    return artifact


def use(run: Any, artifact: wandb.Artifact) -> wandb.Artifact:
    """Say that a run takes an artifact as its input, also one that W&B does not have yet.

    ``Run.use_artifact`` refuses to offline and waits for the upload online; what it calls does not.
    """
    logged: wandb.Artifact = run._log_artifact(
        artifact, is_user_created=True, use_after_commit=True
    )
    return logged
