"""Whole sets of pictures: rendered in parallel, resumed after an interruption, never twice."""

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from product_cls.cores import usable_cores
from product_cls.data.rendered.artwork import draw_atlas, require_packages
from product_cls.data.rendered.catalogue import (
    MOST_PRODUCTS,
    Product,
    build_catalogue,
)
from product_cls.data.rendered.difficulty import Knobs, choose_knobs
from product_cls.data.rendered.picture import RENDERER, draw
from product_cls.data.rendered.render import lookup
from product_cls.data.rendered.shapes import FORMS
from product_cls.data.rendered.views import View, list_views, write_tables
from product_cls.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

JPEG_QUALITY = 92
PRODUCTS_A_TASK = 16  # artwork held at once by a process: 16 x 2 MB, and a table serves all of them
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
    ``products``, ``size``, ``seed`` and the knobs alone. An interrupted call goes on where it was;
    of several calls at once one renders and the rest wait.

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
    out = Path(out)
    limits = {
        "products": (2, MOST_PRODUCTS),
        "size": (32, 1024),
        "seed": (0, 2**31 - 1),
    }
    given = {"products": products, "size": size, "seed": seed}
    for name, (low, high) in limits.items():
        if not low <= given[name] <= high:
            raise UserError(
                f"{name}={given[name]} cannot be rendered: it must be from {low} to {high}."
            )
    if processes is not None and processes < 1:
        raise UserError(f"processes={processes} is not possible: it must be 1 or more.")
    knobs = choose_knobs(
        difficulty, rolls=rolls, twins=twins, items=items, light=light, jitter=jitter
    )
    parameters = {"renderer": RENDERER, **given, **asdict(knobs)}
    try:
        if _read(out / DONE) == parameters:
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{out}.lock"):
            if _claim(out, parameters):
                require_packages()
                _render_missing(out, given, knobs, processes or usable_cores(), progress)
                os.replace(out / UNFINISHED, out / DONE)
    except OSError as error:
        raise UserError(
            f"Cannot write rendered products to {out}: {error.strerror or error}. Free some space "
            "or name another folder (out=...); the same call goes on from what is already made."
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


def _read(marker: Path) -> dict[str, float] | None:
    """The parameters in a marker file; None where there is none."""
    try:
        return json.loads(marker.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # not ours, or damaged: it matches no parameters
        return {}


def _claim(out: Path, parameters: dict[str, float]) -> bool:
    """Whether there is anything to render; then ``out`` carries the marker of an unfinished set."""
    for marker in (DONE, UNFINISHED):
        held = _read(out / marker)
        if held == parameters:
            return marker == UNFINISHED
        if held is not None:
            words = " ".join(f"{name}={value}" for name, value in held.items())
            raise UserError(
                f"{out} holds {'a' if marker == DONE else 'an unfinished'} set rendered with other "
                f"parameters ({words}): name another folder, or delete this one."
            )
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{out} holds files that are not a set of rendered products: name another folder, or "
            "empty this one."
        )
    out.mkdir(exist_ok=True)
    _write(out / UNFINISHED, json.dumps(parameters).encode())
    return True


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there only once it is whole."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _render_missing(
    out: Path, given: dict[str, int], knobs: Knobs, processes: int, progress: bool
) -> None:
    catalogue = build_catalogue(given["products"], given["seed"], knobs.twins)
    views = list(list_views(given["products"], knobs.rolls, given["seed"]))
    (out / "test").mkdir(exist_ok=True)
    for product in catalogue:
        (out / "train" / str(product.label)).mkdir(parents=True, exist_ok=True)
    for folder in (out, out / "test", *(out / "train").iterdir()):
        for remnant in folder.glob("*.tmp"):  # of a process that was killed while writing
            remnant.unlink()
    write_tables(out, catalogue, views)

    todo: dict[int, list[View]] = {}
    for view in views:
        if not (out / view.id).exists():
            todo.setdefault(view.label, []).append(view)
    tasks = _split([p for p in catalogue if p.label in todo], processes)
    work = [
        (out, task, [todo[p.label] for p in task], given["size"], given["seed"], knobs)
        for task in tasks
    ]
    total, missing = len(views), sum(map(len, todo.values()))
    with tqdm(
        total=total, initial=total - missing, unit=" pictures", desc=str(out), disable=not progress
    ) as bar:
        if min(processes, len(work)) < 2:
            for task in work:
                for made in _render_task(*task):
                    bar.update(made)
            return
        spawn = multiprocessing.get_context("spawn")
        counter, stop = spawn.Value("q", 0), spawn.Event()
        with ProcessPoolExecutor(
            min(processes, len(work)), spawn, _start_worker, (counter, stop)
        ) as pool:
            futures, shown = {pool.submit(_work, *task) for task in work}, 0
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)
                    made = counter.value
                    bar.update(made - shown)
                    shown = made
                    for future in done:
                        future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


def _split(products: list[Product], processes: int) -> list[list[Product]]:
    """Tasks of products of one form, so that one table serves them all; small enough to share."""
    forms: dict[tuple[str, str, str], list[Product]] = {}
    for product in products:
        forms.setdefault((product.shape, product.form, product.size), []).append(product)
    most = min(PRODUCTS_A_TASK, -(-len(products) // processes))
    return [
        same[start : start + most] for same in forms.values() for start in range(0, len(same), most)
    ]


def _render_task(
    out: Path,
    products: list[Product],
    views: list[list[View]],
    size: int,
    seed: int,
    knobs: Knobs,
) -> Iterator[int]:
    """Render ``views[i]`` of ``products[i]``, all of one form, by pose; yields pictures made."""
    shape = FORMS[products[0].shape, products[0].form, products[0].size]
    atlases = {product.label: draw_atlas(product, size) for product in products}
    poses: dict[tuple[float, float], list[View]] = {}
    for view in chain.from_iterable(views):
        poses.setdefault((view.pitch, view.roll), []).append(view)

    def by_traced_pose(pose: tuple[float, float]) -> tuple[float, float, float]:
        pitch, roll = pose
        return pitch, roll % shape.period if shape.period else 0.0, roll

    for pitch, roll in sorted(poses, key=by_traced_pose):
        table = lookup(shape, roll, pitch, size, knobs.light)
        for view in poses[pitch, roll]:
            rng = np.random.default_rng((seed, 2, view.label, view.split == "test", view.number))
            picture = draw(
                table,
                atlases[view.label],
                size,
                rng,
                items=knobs.items,
                light=knobs.light,
                jitter=knobs.jitter,
            )
            _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            _write(out / view.id, encoded.tobytes())
        yield len(poses[pitch, roll])


_counter: Any = None  # of a worker process: pictures made by all, and whether to stop
_stop: Any = None


def _start_worker(counter: Any, stop: Any) -> None:
    """Set up a worker: the parent handles Ctrl-C, and its death ends the worker."""
    global _counter, _stop
    _counter, _stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # one picture is too small to share, and there is a process for each CPU
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def _work(*task: Any) -> None:
    for made in _render_task(*task):
        with _counter.get_lock():
            _counter.value += made
        if _stop.is_set():
            return
