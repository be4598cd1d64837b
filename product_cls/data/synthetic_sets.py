"""Sets of made pictures on disk: made once, resumed after an interruption, never mixed up.

A set's folder holds a marker with the parameters it is made with: ``unfinished`` while pictures are
missing, renamed to ``done`` when it is whole.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from product_cls.core.errors import UserError


@dataclass(frozen=True)
class Kind:
    """Which kind of pictures a set holds.

    Attributes:
        what: in words, for messages.
        done, unfinished: names of the markers.
    """

    what: str
    done: str
    unfinished: str


def in_range(name: str, value: Any, low: int, high: float, *, whole: bool = True) -> None:
    """Refuse what is no number from ``low`` to ``high``.

    Raises:
        UserError: it is not.
    """
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise UserError(f"{name}={value} cannot be made: it must be {what} from {low} to {high}.")


def check_common(size: int, seed: int, processes: int | None) -> None:
    """What all sets have: the side of the pictures, which set, and how many processes make it.

    Raises:
        UserError: out of range.
    """
    in_range("size", size, 32, 1024)
    in_range("seed", seed, 0, 2**31 - 1)
    if processes is not None:
        in_range("processes", processes, 1, 1024)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there only once it is whole."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def make_once(
    out: Path,
    kind: Kind,
    parameters: dict[str, Any],
    *,
    require: Callable[[], None],
    fill: Callable[[], None],
) -> None:
    """Call ``fill`` unless ``out`` holds the set already; of several calls at once one does.

    Args:
        out: the set's folder.
        kind: of pictures.
        parameters: that all bytes of the set depend on; plain containers.
        require: raises where a package is missing that ``fill`` needs; called before anything is
            written.
        fill: makes what is not there yet.

    Raises:
        UserError: a folder that holds something else or cannot be written to, or a process that was
            killed.
    """
    try:
        if _held(out / kind.done) == parameters:
            return
        require()
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            if not _claim(out, kind, parameters):
                return
            for remnant in out.rglob("*.tmp"):  # of a process that was killed while writing
                remnant.unlink()
            fill()
            os.replace(out / kind.unfinished, out / kind.done)
    except OSError as error:
        raise UserError(
            f"Cannot write {kind.what} to {out}: {error.strerror or error}. Make room, or "
            "name another folder; the same call goes on from what is already made."
        ) from error
    except BrokenProcessPool:
        raise UserError(
            f"A process that made pictures in {out} was killed, perhaps for want of memory: give a "
            "smaller processes=...; the same call goes on from the pictures already made."
        ) from None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold ``out``; who has to wait is told."""
    lock = FileLock(f"{out}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting: another process makes the pictures of {out}.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _held(marker: Path) -> dict[str, Any] | None:
    """The parameters in a marker file; None where there is none.

    Raises:
        UserError: it is damaged, or not ours.
    """
    try:
        held = json.loads(marker.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise UserError(
            f"{marker} cannot be read: name another folder, or delete this one and begin anew."
        )
    return held


def _claim(out: Path, kind: Kind, parameters: dict[str, Any]) -> bool:
    """Whether there is anything to make; then ``out`` carries the marker of an unfinished set."""
    for marker in (kind.done, kind.unfinished):
        held = _held(out / marker)
        if held == parameters:
            return marker == kind.unfinished
        if held is not None:
            words = " ".join(f"{name}={value}" for name, value in held.items())
            state = "a" if marker == kind.done else "an unfinished"
            raise UserError(
                f"{out} holds {state} set of {kind.what} with other parameters ({words}): name "
                f"another folder, or delete this one."
            )
    # A call that was killed before its marker was whole leaves the marker's beginning.
    if out.is_dir() and any(not file.match(f"{kind.unfinished}.*.tmp") for file in out.iterdir()):
        raise UserError(
            f"{out} holds files that are not a set of {kind.what}: name another folder, or empty "
            "this one."
        )
    out.mkdir(exist_ok=True)
    write_whole(out / kind.unfinished, json.dumps(parameters).encode())
    return True
