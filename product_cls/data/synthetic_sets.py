"""Synthetic sets on disk: written once, resumed after an interruption, never mixed.

A set's folder holds a marker file with the set's parameters. It is called ``unfinished`` while
pictures are missing and renamed to ``done`` when the set is complete.
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
from product_cls.core.files import write_text_whole


@dataclass(frozen=True)
class SetKind:
    """The kind of a set.

    Attributes:
        what: its content in words, for messages.
        done, unfinished: names of the marker files.
    """

    what: str
    done: str
    unfinished: str


def in_range(name: str, value: Any, low: int, high: float, *, whole: bool = True) -> None:
    """Check that an argument is a number from ``low`` to ``high``.

    Args:
        name: name of the argument.
        value: its value.
        low, high: smallest and largest allowed number.
        whole: refuse fractions.

    Raises:
        ValueError: the value is out of range or of another type.
    """
    types = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}={value}; allowed: {kind} from {low} to {high}.")


def check_common(size: int, seed: int, processes: int | None) -> None:
    """Check the arguments that all sets share.

    Args:
        size: side of the pictures in pixels.
        seed: seed of the set.
        processes: number of processes; None for one per CPU.

    Raises:
        ValueError: one is out of range.
    """
    in_range("size", size, 32, 1024)
    in_range("seed", seed, 0, 2**31 - 1)
    if processes is not None:
        in_range("processes", processes, 1, 1024)


def make_once(
    out: Path,
    kind: SetKind,
    parameters: dict[str, Any],
    *,
    require: Callable[[], None],
    fill: Callable[[], None],
) -> None:
    """Call ``fill`` unless ``out`` already holds the set; concurrent calls wait for each other.

    Args:
        out: the set's folder.
        kind: kind of the set.
        parameters: everything that the set's bytes depend on, in plain containers.
        require: called before anything is written; raises if ``fill`` lacks a package.
        fill: makes the missing files.

    Raises:
        UserError: the folder holds something else or cannot be written, or a worker process was
            killed.
    """
    try:
        if _stored_parameters(out / kind.done) == parameters:
            return
        require()
        out.parent.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            if not _claim(out, kind, parameters):
                return
            for remnant in out.rglob("*.tmp"):  # from a process that was killed while writing
                remnant.unlink()
            fill()
            os.replace(out / kind.unfinished, out / kind.done)
    except OSError as error:
        raise UserError(
            f"Cannot write {kind.what} to {out}: {error.strerror or error}. Free some "
            "space or name another folder; the same call resumes from the finished files."
        ) from error
    except BrokenProcessPool:
        raise UserError(
            f"A process that made pictures in {out} was killed, perhaps for lack of memory: lower "
            "processes=...; the same call resumes from the finished pictures."
        ) from None


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock ``out``; tell the user if the lock is taken."""
    lock = FileLock(f"{out}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting for another process that makes the pictures of {out}.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _stored_parameters(marker: Path) -> dict[str, Any] | None:
    """The parameters in a marker file; None if there is no such file.

    Raises:
        UserError: the file is not a marker, or is damaged.
    """
    try:
        parameters = json.loads(marker.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise UserError(
            f"{marker} cannot be read: name another folder, or delete this one and start again."
        )
    return parameters


def _claim(out: Path, kind: SetKind, parameters: dict[str, Any]) -> bool:
    """Mark ``out`` as an unfinished set; False if the set is already complete."""
    for marker in (kind.done, kind.unfinished):
        stored = _stored_parameters(out / marker)
        if stored == parameters:
            return marker == kind.unfinished
        if stored is not None:
            settings = " ".join(f"{name}={value}" for name, value in stored.items())
            state = "a" if marker == kind.done else "an unfinished"
            raise UserError(
                f"{out} holds {state} set of {kind.what} with other parameters ({settings}): name "
                f"another folder, or delete this one."
            )
    # A call that was killed while writing its marker leaves only a part of the marker.
    if out.is_dir() and any(not file.match(f"*{kind.unfinished}.*.tmp") for file in out.iterdir()):
        raise UserError(
            f"{out} holds files that are not a set of {kind.what}: name another folder, or empty "
            "this one."
        )
    write_text_whole(out / kind.unfinished, json.dumps(parameters))
    return True
