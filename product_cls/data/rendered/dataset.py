"""Whole sets of pictures: rendered in parallel, resumed after an interruption, never twice."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from product_cls.cores import usable_cores
from product_cls.data.rendered.artwork import require_packages
from product_cls.data.rendered.catalogue import MOST_PRODUCTS, build_catalogue
from product_cls.data.rendered.difficulty import choose_knobs, in_range
from product_cls.data.rendered.jobs import render_missing, write_whole
from product_cls.data.rendered.picture import RENDERER
from product_cls.data.rendered.views import list_views, write_tables
from product_cls.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

DONE, UNFINISHED = "rendered.json", "rendering.json"


def render_dataset(
    out: str | Path,
    *,
    products: int = 24,
    size: int = 256,
    seed: int = 0,
    difficulty: str = "standard",
    rolls: int | None = None,
    twins: int | None = None,
    items: float | None = None,
    light: float | None = None,
    jitter: float | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Render made-up products into ``out``, in the competition's layout, unless they are there.

    Written are ``train/<label>/<n>.jpg`` (``2 * rolls`` a product, pitch 0 and 30 degrees),
    ``test/<n>.jpg`` (``3 * rolls`` a product, pitch 0, 30 and 60, at rolls in between),
    ``sample.csv``, ``views.csv`` (``id,label,roll,pitch,split``, with the test's answers) and
    ``catalogue.csv`` (what each product is: labels for several heads). The bytes depend on
    ``products``, ``size``, ``seed`` and the knobs alone (and on the versions of Pillow, OpenCV and
    NumPy). An interrupted call goes on where it was; of several calls at once one renders and the
    rest wait.

    With more than one process the caller's main module is imported by each of them (Python's
    "spawn"): guard a script with ``if __name__ == "__main__"``.

    Args:
        products: number of products (classes), 2 to `catalogue.MOST_PRODUCTS`.
        size: side of the square pictures in pixels, 32 to 1024.
        seed: which shop; 0 or more.
        difficulty: a preset of the knobs (`difficulty.PRESETS`): easy, standard or hard.
        rolls, twins, items, light, jitter: single knobs (`difficulty.Knobs`) to turn.
        processes: worker processes; by default as many as the CPUs this process may use.
        progress: show a bar with pictures a second.

    Returns:
        ``out``.

    Raises:
        UserError: an argument out of range, a folder that holds something else or cannot be written
            to, fonts or food pictures that are not installed.
    """
    out = Path(out).expanduser().absolute()
    in_range("products", products, 2, MOST_PRODUCTS)
    in_range("size", size, 32, 1024)
    in_range("seed", seed, 0, 2**31 - 1)
    if processes is not None:
        in_range("processes", processes, 1, 1024)
    knobs = choose_knobs(
        difficulty, rolls=rolls, twins=twins, items=items, light=light, jitter=jitter
    )
    parameters = {
        "renderer": RENDERER,
        "products": products,
        "size": size,
        "seed": seed,
        **asdict(knobs),
    }
    try:
        if _held(out / DONE) == parameters:
            return out
        require_packages()
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            if not _claim(out, parameters):
                return out
            catalogue = build_catalogue(products, seed, knobs.twins)
            views = list(list_views(products, knobs.rolls, seed))
            (out / "test").mkdir(exist_ok=True)
            for product in catalogue:
                (out / "train" / str(product.label)).mkdir(parents=True, exist_ok=True)
            for folder in (out, out / "test", *(out / "train").iterdir()):
                for remnant in folder.glob("*.tmp"):  # of a process that was killed while writing
                    remnant.unlink()
            write_tables(out, catalogue, views)
            render_missing(
                out,
                catalogue,
                views,
                size=size,
                seed=seed,
                knobs=knobs,
                processes=processes or usable_cores(),
                progress=progress,
            )
            os.replace(out / UNFINISHED, out / DONE)
    except OSError as error:
        raise UserError(
            f"Cannot write rendered products to {out}: {error.strerror or error}. Make room, or "
            "name another folder; the same call goes on from what is already made."
        ) from error
    except BrokenProcessPool:
        raise UserError(
            f"A process that rendered into {out} was killed, perhaps for want of memory: give a "
            "smaller processes=...; the same call goes on from the pictures already made."
        ) from None
    return out


def read_rendered(root: str | Path, **arguments: Any) -> "pd.DataFrame":
    """The sample table of a rendered set, which is made first where it is missing.

    Arguments and errors: ``render_dataset``.
    """
    # Workers import this module; they have no use for pandas.
    from product_cls.data.samples import read_competition

    render_dataset(root, **arguments)
    return read_competition(root)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold ``out``; who has to wait is told."""
    lock = FileLock(f"{out}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting: another process renders into {out}.", file=sys.stderr)
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
            f"{marker} cannot be read: name another folder, or delete this one and render anew."
        )
    return held


def _claim(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether there is anything to render; then ``out`` carries the marker of an unfinished set."""
    for marker in (DONE, UNFINISHED):
        held = _held(out / marker)
        if held == parameters:
            return marker == UNFINISHED
        if held is not None:
            words = " ".join(f"{name}={value}" for name, value in held.items())
            raise UserError(
                f"{out} holds {'a' if marker == DONE else 'an unfinished'} set rendered with other "
                f"parameters ({words}): name another folder, or delete this one."
            )
    # A call that was killed before its marker was whole leaves the marker's beginning.
    if out.is_dir() and any(not file.match(f"{UNFINISHED}.*.tmp") for file in out.iterdir()):
        raise UserError(
            f"{out} holds files that are not a set of rendered products: name another folder, or "
            "empty this one."
        )
    out.mkdir(exist_ok=True)
    write_whole(out / UNFINISHED, json.dumps(parameters).encode())
    return True
