"""Parts of storm.py: a sweep as processes, blows against them, and what two sweeps must share."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from start_up import tiny, write_pictures

from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
MARK = "PRODUCT_CLS_STORM"  # environment variable by which a sweep's processes are found
POLL = 0.002  # seconds between two looks at files and processes
PATIENCE = 300.0  # seconds after which a sweep counts as hanging
DYING = 10.0  # seconds that the processes of a killed sweep have to disappear

# What is hit -> exit statuses of a sweep that ends so. A blow can come just before the end, whose
# status is then 0 or, after a failed job, 1.
TARGETS: dict[str, tuple[int, ...]] = {
    "launcher": (-signal.SIGKILL,),
    "job": (1,),
    "fork server": (0,),
    "all": (-signal.SIGKILL,),
    "launcher, Ctrl-C": (128 + signal.SIGINT,),
    "launcher, SIGTERM": (128 + signal.SIGTERM, -signal.SIGTERM),  # the latter while it imports
}
SIGNALS = {"launcher, Ctrl-C": signal.SIGINT, "launcher, SIGTERM": signal.SIGTERM}

# Values in a run folder that are another time, place or random name in each attempt.
NOT_COMPARED = {
    "status.json": ("started", "finished", "tracking_id"),
    "metrics.json": ("seconds",),
}
CHECKPOINT_PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


@dataclass(frozen=True)
class Place:
    """Folders of one sweep.

    Attributes:
        pictures: its data; shared by all sweeps.
        folder: of its runs, its cache and its log.
        temporary: its TMPDIR.
    """

    pictures: Path
    folder: Path
    temporary: Path

    @property
    def sweep(self) -> Path:
        return self.folder / "sweep"

    @property
    def log(self) -> Path:
        return self.pictures.parent / f"{self.folder.name}.log"  # never on the full disk


def write_data(root: Path) -> Path:
    """Pictures to train on in ``root/pictures``, and loose ones to predict in ``root/test``."""
    write_pictures(root / "pictures")
    (root / "test").mkdir()
    for number, file in enumerate(sorted((root / "pictures").rglob("*.jpg"))[::5]):
        with Image.open(file) as picture:
            picture.rotate(90).save(root / "test" / f"{number}.jpg", quality=92)
    return root / "pictures"


class TypedSweep:
    """A sweep that has been typed.

    Args:
        place: its folders.
        seeds: of each of two folds.
        epochs: of each job.
        mark: a text that no other sweep has.
    """

    def __init__(self, place: Place, seeds: int, epochs: int, mark: str) -> None:
        self.place, self.mark = place, mark
        place.temporary.mkdir(parents=True, exist_ok=True)
        words = [
            *(sys.executable, str(TRAIN), "-m", *tiny(place.pictures.parent), "logger=csv"),
            *(f"data.test={place.pictures.parent / 'test'}", f"trainer.max_epochs={epochs}"),
            *(f"paths.cache={place.folder / 'cache'}", f"hydra.sweep.dir={place.sweep}"),
            "hydra.sweep.subdir='fold=${fold},seed=${seed}'",
            *("fold=0,1", f"seed={','.join(map(str, range(seeds)))}"),
            *("hydra.launcher.jobs=2", "hydra.launcher.threads=1"),
        ]
        with place.log.open("w") as log:
            self.launcher = subprocess.Popen(
                words,
                env=os.environ | {MARK: mark, "TMPDIR": str(place.temporary)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self.launcher.poll() is None

    def output(self) -> str:
        return self.place.log.read_text(errors="replace")

    def end(self) -> int:
        """Wait for the exit status.

        Raises:
            UserError: the sweep hangs, or processes of it live on; they are killed.
        """
        try:
            status = self.launcher.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise UserError(f"The sweep hangs: {self.output()[-2000:]}") from None
        deadline = time.monotonic() + DYING
        while left := self.family():
            if time.monotonic() > deadline:
                self.kill_all()
                raise UserError(f"{len(left)} processes of the sweep live on after its end.")
            time.sleep(0.05)
        return status

    def kill_all(self) -> None:
        """SIGKILL for every process of the sweep."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.launcher.wait()

    def family(self) -> list[int]:
        """Process IDs of the sweep's living processes, by the mark in their environment."""
        entry = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def children(self) -> tuple[int | None, list[int]]:
        """The fork server, None without one, and the jobs that run."""
        found = []
        for pid in self.family():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                parent, session, started = int(text[1]), int(text[3]), int(text[19])
                if parent == self.launcher.pid and session == pid:
                    found.append((started, pid))
        pids = [pid for _, pid in sorted(found)]
        # Forked jobs have the server's command line, so it is told by being the first child.
        first = Path(f"/proc/{pids[0]}/cmdline") if pids else None
        with suppress(OSError):
            if first is not None and b"fork_server" in first.read_bytes():
                return pids[0], pids[1:]
        return None, pids

    def hit(self, target: str, draw: Random) -> bool:
        """Kill a target, or send it a signal.

        Returns:
            False if there is no such process now.
        """
        server, jobs = self.children()
        match target:
            case "job":
                victims = [draw.choice(jobs)] if jobs else []
            case "fork server":
                victims = [] if server is None else [server]
            case "all":
                victims = self.family()
                draw.shuffle(victims)
            case _:
                victims = [self.launcher.pid] if self.alive() else []
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGNALS.get(target, signal.SIGKILL))
        return bool(victims)

    def wait_for_writes(self, count: int) -> None:
        """Return right after files in the sweep's folders have changed this often, or at its
        end."""
        before = _versions(self.place.folder)
        while count > 0 and self.alive():
            time.sleep(POLL)
            now = _versions(self.place.folder)
            count -= len(now.items() - before.items())
            before = now


def _versions(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file below a folder, except logs."""
    found: dict[str, tuple[int, int]] = {}
    with suppress(OSError):  # a folder that was there a moment ago
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                found |= _versions(Path(entry.path))
            elif not entry.name.endswith((".log", ".yaml", ".lock")):
                stat = entry.stat(follow_symlinks=False)
                found[entry.path] = stat.st_mtime_ns, stat.st_size
    return found


@contextmanager
def tmpfs(folder: Path, kilobytes: int) -> Iterator[None]:
    """A small file system in memory at ``folder``, which is created.

    Raises:
        UserError: this user may not mount.
    """
    folder.mkdir(parents=True)
    _mount("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield
    finally:
        _mount("umount", "--lazy", str(folder))


def enlarge(folder: Path, kilobytes: int) -> None:
    """Give a ``tmpfs`` another size."""
    _mount("mount", "-o", f"remount,size={kilobytes}k", str(folder))


def _mount(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{words[0]} is missing here") from None
    except subprocess.CalledProcessError as error:
        raise UserError(" ".join(error.stderr.split())) from None


def kilobytes(folder: Path) -> int:
    """Size of all files below a folder, in whole blocks of 4 KiB as a tmpfs counts them."""
    sizes = [file.lstat().st_size for file in folder.rglob("*") if file.is_file()]
    return sum(4 * -(-size // 4096) for size in sizes)


def differences(place: Place, reference: Place) -> list[str]:
    """What a sweep has that differs from the unbroken one, bit for bit.

    Compared are weights and states of checkpoints, arrays of predictions, metrics, curves, states,
    folds and stored pictures. No file may be missing or left over, in its folder or in its TMPDIR.
    """
    ours, theirs = _files(place.folder), _files(reference.folder)
    found = [f"{name} is missing" for name in sorted(theirs - ours)]
    found += [f"{name} is left over" for name in sorted(ours - theirs)]
    found += [f"{file} is left in TMPDIR" for file in sorted(_files(place.temporary))]
    for name in sorted(ours & theirs):
        try:
            same = _content(place.folder / name) == _content(reference.folder / name)
        except Exception as error:  # whatever the readers of a damaged file raise
            found.append(f"{name} is damaged: {type(error).__name__}: {error}")
            continue
        if not same:
            found.append(f"{name} differs")
    for run in sorted(file.parent for file in place.sweep.glob("*/status.json")):
        if (state := RunFolder(run).status().get("state")) != "done":
            found.append(f"{run.name} is {state}")
    return found


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}


def _content(file: Path) -> Any:
    """What must be equal of a file, in a form that ``==`` compares; None for logs and settings."""
    if file.suffix == ".ckpt":
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        return _plain({part: checkpoint[part] for part in CHECKPOINT_PARTS})
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as stored:
            return {name: _plain(stored[name]) for name in stored.files}
    if file.name in NOT_COMPARED:
        content = json.loads(file.read_text())
        return {key: value for key, value in content.items() if key not in NOT_COMPARED[file.name]}
    return file.read_bytes() if file.suffix in (".csv", ".npy") else None


def _plain(value: Any) -> Any:
    """Tensors and arrays as type, shape and bytes, also inside containers."""
    if isinstance(value, torch.Tensor):
        return _plain(value.numpy())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
