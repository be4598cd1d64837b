"""The run folder. No other module knows its layout.

``multirun/<name>/<overrides>/`` holds ``.hydra/``, ``config.yaml`` (resolved), ``status.json``,
``metrics.json``, ``labels.npz``, ``train.log``, ``console.log`` (all output of a sweep's job),
``logs/``, ``checkpoints/`` and ``predictions/``. The path contains no date, so the same command
finds the same folder again.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal
from uuid import uuid4

import yaml
from filelock import FileLock, Timeout

from product_cls.core.arguments import as_typed
from product_cls.core.documents import read_json, read_yaml
from product_cls.core.errors import UserError, reason
from product_cls.core.files import now, storage_sentence, write_text_whole
from product_cls.core.nested import flatten
from product_cls.runs.stored import Stored

OUTPUTS = (
    "status.json",
    "metrics.json",
    "config.yaml",
    "labels.npz",
    "checkpoints",
    "predictions",
    "logs",
)

# Types of the fields of status.json, each of which may be missing.
STATUS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("state", "fingerprint", "started", "finished", "error", "metric", "tracking_id"),
        (str, NoneType),
    ),
    **dict.fromkeys(("epoch", "epochs", "halved"), (int, NoneType)),
    "value": (int, float, NoneType),
    "limited": (bool, NoneType),
}

# Parts of config.yaml that are mappings.
GROUPS = {
    "data",
    "task",
    "model",
    "callbacks",
    "trainer",
    "optimizer",
    "logger",
    "folds",
    "augment",
}

# What a command does in the folder of its run.
Action = Literal["fresh", "resume", "skip"]

NO_STATUS = "its folder holds no status.json"


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        kind: only the results of a ``done`` run can be used. A ``limited`` run has finished but saw
            only a part of the pictures; a ``missing`` one has no ``status.json``.
        reason: a phrase without a full stop that explains any kind but ``done``; "" for ``done``.
    """

    kind: Literal["done", "failed", "running", "limited", "unreadable", "missing"]
    reason: str


NO_FOLDER = RunState("missing", "no run folder")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, created with its first file."""

    path: Path

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def overrides_file(self) -> Path:
        """Written by Hydra, or by the Python API in its place."""
        return self.path / ".hydra" / "overrides.yaml"

    @property
    def curves_file(self) -> Path:
        """Learning curves: a table with a column ``epoch`` (from 0) and one column per metric."""
        return self.path / "logs" / "metrics.csv"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def console_file(self) -> Path:
        """Standard output and error of a sweep's job, written by the launcher."""
        return self.path / "console.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def labels_file(self) -> Path:
        """The labels that the run knew, of all its pictures."""
        return self.path / "labels.npz"

    def predictions_file(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.npz"

    def status(self) -> dict[str, Any]:
        """Content of ``status.json``; empty if the file is missing or cannot be read.

        Keys: ``state`` (``running`` | ``done`` | ``failed``), ``fingerprint``, ``started``,
        ``finished``, ``error`` (one sentence), ``epoch`` and ``epochs`` (finished and planned),
        ``metric`` (its name) and ``value`` (the best so far), ``tracking_id`` (the run's id in W&B
        and MLflow; a resumed run keeps it, a rerun or a run with other settings gets a new one),
        ``halved`` (how often the batch was halved to fit into memory), ``limited`` (whether the run
        saw only a part of the pictures).
        """
        try:
            status = read_json(self.status_file, dict)
        except UserError:
            return {}
        # A field of another type would fail far from here.
        suits = all(isinstance(status.get(key), types) for key, types in STATUS.items())
        return status if suits else {}

    def best_value(self) -> float | None:
        """The best metric so far, as ``status.json`` records it; None if it is no number."""
        value: Any = self.status().get("value")
        return value if type(value) in (int, float) and math.isfinite(value) else None

    def halved(self) -> int:
        """How often the batch was halved, as ``status.json`` records it."""
        times = self.status().get("halved")
        return times if type(times) is int and times >= 0 else 0

    def state(self) -> RunState:
        """The state of the run as ``status.json`` records it."""
        if not self.status_file.exists():
            return RunState("missing", NO_STATUS) if self.path.is_dir() else NO_FOLDER
        status = self.status()
        if status.get("limited"):
            return RunState("limited", "saw a part of the pictures only (trainer=debug)")
        match status.get("state"):
            case "done":
                return RunState("done", "")
            case "failed":
                error = " ".join(str(status.get("error") or "no reason recorded").split())
                return RunState("failed", error.rstrip("."))
            case "running":
                epochs = status.get("epochs")
                progress = f"after epoch {status.get('epoch', 0)} of {epochs}" if epochs else ""
                return RunState("running", progress or "just started")
        return RunState("unreadable", f"{self.status_file} cannot be read")

    def shortcoming(self) -> str | None:
        """Why the results of the run cannot be used; None if it has finished.

        Returns:
            A predicate without a full stop, to follow the run's name: ``failed: Out of memory``.
        """
        state = self.state()
        return {
            "done": None,
            "failed": f"failed: {state.reason}",
            "running": f"is still running ({state.reason})",
            "limited": state.reason,
            "missing": f"cannot be used: {state.reason}",
            "unreadable": f"cannot be used: {state.reason}",
        }[state.kind]

    def update_status(self, **fields: Any) -> None:
        """Set some keys of ``status.json``; the others stay."""
        write_text_whole(self.status_file, json.dumps(self.status() | fields, indent=2) + "\n")

    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``.

        Raises:
            UserError: the file is missing, because the run has not finished, or it is damaged.
        """
        if not self.metrics_file.exists():
            raise UserError(f"{self.metrics_file} cannot be read: is the run finished?")
        return Stored.of(read_json(self.metrics_file, dict), self.metrics_file)

    def config(self) -> dict[str, Any]:
        """Content of ``config.yaml``: the resolved config, which is never interpolated again.

        A key that it lacks raises a ``UserError``, too.

        Raises:
            UserError: the file is missing or damaged.
        """
        content = Stored.of(read_yaml(self.config_file, dict), self.config_file)
        for key in GROUPS & content.keys():
            if not isinstance(content[key], dict):
                raise UserError(f"{self.config_file} is damaged: its '{key}' is no mapping.")
        if not isinstance(content.get("tta", []), list):
            raise UserError(f"{self.config_file} is damaged: its 'tta' is no list.")
        return content

    def overrides(self) -> list[str]:
        """The overrides of the run's command, as typed.

        Raises:
            UserError: the file is missing or damaged.
        """
        return [str(word) for word in read_yaml(self.overrides_file, list)]

    def write_overrides(self, overrides: Sequence[str]) -> None:
        """Write the file that Hydra writes for runs of the command."""
        write_text_whole(self.overrides_file, yaml.safe_dump(list(overrides)))

    def plan(self, fingerprint: str, *, rerun: bool = False) -> Action:
        """What a command does in this folder.

        Args:
            fingerprint: of the command's settings and data.
            rerun: start anew even if the run has finished.
        """
        status = self.status()
        if rerun or status.get("fingerprint") != fingerprint:
            return "fresh"
        if status.get("state") == "done":
            return "skip"
        return "resume" if any(self.checkpoints.glob("*.ckpt")) else "fresh"

    def begin(self, fingerprint: str, *, fresh: bool, halved: int = 0) -> Path | None:
        """Mark the run as running; a fresh run first moves earlier results to ``.replaced``.

        Leftovers with neither metrics nor a checkpoint are deleted instead, so that they do not
        replace results that ``.replaced`` holds.

        Args:
            fingerprint: of settings and data.
            fresh: whether the run starts anew.
            halved: how often the batch is halved.

        Returns:
            The folder that earlier results were moved to; None if there were none.
        """
        moved, previous = None, self.status()
        same = previous.get("fingerprint") == fingerprint
        goes_on = same and not (fresh and previous.get("state") == "done")
        tracking_id = previous.get("tracking_id") if goes_on else None
        if fresh:
            earlier = [self.path / name for name in OUTPUTS if (self.path / name).exists()]
            replaced = self.path / ".replaced"
            if self.metrics_file.is_file() or any(self.checkpoints.glob("*.ckpt")):
                shutil.rmtree(replaced, ignore_errors=True)
                replaced.mkdir()
                moved = replaced
            for item in earlier:
                if moved is not None:
                    item.rename(replaced / item.name)
                elif item.is_dir():
                    shutil.rmtree(item)
                else:
                    item.unlink()
        self.update_status(
            state="running",
            fingerprint=fingerprint,
            tracking_id=tracking_id or uuid4().hex[:12],
            started=now(),
            finished=None,
            error=None,
            halved=halved,
        )
        return moved

    def differences(self, config: Mapping[str, Any]) -> list[str]:
        """Settings of the earlier run here that are not those of ``config``.

        Args:
            config: resolved, plain containers.

        Returns:
            ``data.root=a, now b``, in the order of the config; empty if no earlier one can be read.
        """
        try:
            before = flatten(self.config())
        except UserError:
            return []
        now = flatten(config)
        keys = [key for key in {**now, **before} if before.get(key) != now.get(key)]
        left_out = ("logger", "rerun", "data.samples")
        return [
            f"{key}={as_typed(before.get(key))}, now {as_typed(now.get(key))}"
            for key in keys
            if not key.startswith(left_out)
        ]

    def discard_unbegun(self) -> None:
        """Delete what Hydra and the log have written for a run that was refused before it began.

        A folder in which a run has begun, or that holds anything else, keeps it.
        """
        outputs = {name for name in OUTPUTS if (self.path / name).exists()}
        if outputs - {"status.json"} or self.status().get("fingerprint"):
            return
        shutil.rmtree(self.path / ".hydra", ignore_errors=True)
        with suppress(OSError):  # the folder is not empty, or cannot be written
            for file in (self.status_file, self.log_file, self.path / ".lock"):
                file.unlink(missing_ok=True)
            self.path.rmdir()
            self.path.parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, so that two processes with the same command do not mix their runs.

        Raises:
            UserError: another process holds the lock, or the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UserError(
                f"Another process is training in {self.path}; wait for it or set another name=..."
            ) from None
        except OSError as error:
            raise UserError(
                storage_sentence(error) or f"{self.path} cannot be locked: {reason(error)}."
            ) from None
        try:
            yield
        finally:
            lock.release()


def find_runs(root: Path) -> list[RunFolder]:
    """All run folders in ``root``, which may be one itself, sorted by path.

    Raises:
        UserError: the folder does not exist or holds no run.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    files = [file for file in root.rglob("status.json") if ".replaced" not in file.parts]
    if not files:
        raise UserError(f"No run in {root}: no folder below it holds a status.json.")
    return [RunFolder(file.parent) for file in sorted(files)]
