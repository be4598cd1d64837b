"""Pictures of products: a lookup table for each pose, coloured with the artwork of each product.

A table holds, for every ray of the camera, the place on the artwork and the light that falls there;
it is made once for a shape and a pose and serves all products of that shape.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from product_cls.data.rendered.artwork import draw_atlas, require_packages
from product_cls.data.rendered.catalogue import (
    MOST_PRODUCTS,
    Product,
    View,
    build_catalogue,
    list_views,
    write_tables,
)
from product_cls.data.rendered.geometry import (
    CANVAS,
    FORMS,
    MARGIN,
    SUPERSAMPLE,
    Floats,
    Shape,
    atlas_offsets,
    camera_distance,
    focal_length,
    highlight,
    lightness,
    march,
    surface_normals,
    texel_density,
    turn,
)
from product_cls.errors import UserError

RENDERER = 1  # raise it with any change that changes a picture
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Lookup:
    """What the camera sees in one pose, on a square canvas of `CANVAS` output sides.

    ``rows``, ``columns`` are where the product lies; ``texels`` (fixed point, for `cv2.remap`),
    ``mask`` (255 on the product), ``shade`` (128 keeps a colour) and ``shine`` (added) cover only
    that part. ``floor`` is the lightness of the surroundings, shadow included, on the whole canvas.
    """

    rows: slice
    columns: slice
    texels: tuple[NDArray[np.int16], NDArray[np.uint16]]
    mask: NDArray[np.uint8]
    shade: NDArray[np.uint8]
    shine: NDArray[np.uint8]
    floor: NDArray[np.uint8]


def lookup(shape: Shape, roll: float, pitch: float, size: int) -> Lookup:
    """The table for one pose (angles in degrees) and pictures of ``size`` pixels a side.

    Tracing is the slow part, and it is kept for the last bare pose only: ask for rolls that differ
    by a multiple of ``shape.period`` one after the other.
    """
    bare = roll % shape.period if shape.period else 0.0
    seen = _look(shape, bare, pitch, size)
    panel, u, v = shape.texture(turn(seen.points, -roll))
    placed = np.array(atlas_offsets(shape, texel_density(shape, size)), np.float32)
    left, width, height = placed[:, 0], placed[:, 1], placed[:, 2]
    inside = seen.mask > 0
    column = np.zeros(seen.mask.shape, np.float32)
    row = np.zeros(seen.mask.shape, np.float32)
    # Texel centres lie at half texels, and cv2 counts from the first centre.
    column[inside] = left[panel] + u * width[panel] - 0.5
    row[inside] = MARGIN + v * height[panel] - 0.5
    texels = cv2.convertMaps(column, row, cv2.CV_16SC2)
    gloss = np.array([p.gloss for p in shape.panels], np.float32)
    shine = np.zeros(seen.mask.shape, np.uint8)
    shine[inside] = (gloss[panel] * seen.shine).astype(np.uint8)
    return Lookup(
        seen.rows, seen.columns, texels, seen.mask, seen.shade, cv2.merge([shine] * 3), seen.floor
    )  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Seen:
    """The part of a lookup that depends on the bare solid only; points [3, N] in the room."""

    rows: slice
    columns: slice
    mask: NDArray[np.uint8]
    points: Floats
    shade: NDArray[np.uint8]
    shine: Floats
    floor: NDArray[np.uint8]


@lru_cache(maxsize=1)
def _look(shape: Shape, roll: float, pitch: float, size: int) -> _Seen:
    side = int(np.ceil(CANVAS * size / 4)) * 4  # a multiple of the coarse grid's step
    sin, cos = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
    # Everything up to the points is done in the product's frame: there the camera goes round it.
    camera = turn(camera_distance(shape) * np.array([[0], [-cos], [sin]], np.float32), -roll)
    focal = focal_length(size)

    def rays(x: Floats, y: Floats) -> Floats:
        """Unit directions [3, N] through canvas positions, in rays from the canvas's corner."""
        x, y = (x - side / 2) / focal, (side / 2 - y) / focal
        directions = np.stack([x, y * sin + cos, y * cos - sin]).astype(np.float32)
        directions /= np.sqrt((directions * directions).sum(0))
        return turn(directions, -roll)

    # A bundle of 4 x 4 rays first goes as far as it safely can, then each ray alone.
    grid = np.arange(2, side, 4, dtype=np.float32)
    bundles = rays(np.tile(grid, grid.size), np.repeat(grid, grid.size))
    reach = float(camera_distance(shape) + np.hypot(shape.radius, shape.height / 2))
    start = march(
        shape.distance, camera, bundles, np.zeros(bundles.shape[1], np.float32), reach, 3 / focal
    )
    hit = start.reshape(grid.size, grid.size) < reach
    rows = np.flatnonzero(hit.any(1))
    columns = np.flatnonzero(hit.any(0))
    top, bottom, left, right = rows[0] * 4, rows[-1] * 4 + 4, columns[0] * 4, columns[-1] * 4 + 4
    near = np.repeat(np.repeat(hit, 4, 0), 4, 1)[top:bottom, left:right]
    y, x = np.nonzero(near)
    directions = rays(x + np.float32(left + 0.5), y + np.float32(top + 0.5))
    begin = start.reshape(hit.shape)[(y + top) // 4, (x + left) // 4]
    travelled = march(shape.distance, camera, directions, begin, reach, 0.0)
    landed = travelled < reach
    directions = directions[:, landed]
    points = camera + travelled[landed] * directions
    mask = np.zeros(near.shape, np.uint8)
    mask[y[landed], x[landed]] = 255

    normals = turn(surface_normals(shape.distance, points), roll)
    points, directions = turn(points, roll), turn(directions, roll)
    shade = np.zeros(near.shape, np.uint8)
    shade[mask > 0] = 128 * lightness(normals, points[2] + shape.height / 2)
    return _Seen(
        slice(top, bottom),
        slice(left, right),
        mask,
        points,
        cv2.merge([shade] * 3),  # type: ignore[arg-type]
        255 * highlight(normals, directions),
        _surroundings(shape, roll, camera, bundles, side),
    )


def _surroundings(
    shape: Shape, roll: float, camera: Floats, directions: Floats, side: int
) -> NDArray[np.uint8]:
    """Lightness of backdrop and floor [side, side], from rays (product's frame) on a coarse grid.

    The floor runs into the backdrop without an edge. Where the product keeps light off, by its
    signed distance from the floor and from a point on the way to the lamp, there is soft shadow.
    """
    grid = int(np.sqrt(directions.shape[1]))
    row = np.repeat(np.linspace(-1, 1, grid, dtype=np.float32), grid)
    column = np.tile(np.linspace(-1, 1, grid, dtype=np.float32), grid)
    level = 0.97 - 0.05 * row * row - 0.04 * column * column
    falling = directions[2] < -0.01
    on_floor = (
        camera + (-shape.height / 2 - camera[2]) / np.minimum(directions[2], -0.01) * directions
    )
    lamp = turn(np.array([[-0.12], [-0.09], [0.18]], np.float32), -roll)
    contact = np.maximum(shape.distance(on_floor), 0)
    cast = np.maximum(shape.distance(on_floor + lamp), 0)
    shadow = 0.5 * np.exp(-contact / 0.035) + 0.28 * np.exp(-cast / 0.12)
    level *= 1 - np.where(falling, np.minimum(shadow, 0.75), 0)
    coarse = np.clip(255 * level, 0, 255).astype(np.uint8).reshape(grid, grid)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def draw(
    table: Lookup, atlas: NDArray[np.uint8], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One picture, uint8 [size, size, 3] BGR, with the small accidents of a studio drawn from ``rng``.

    They are: tint of the backdrop, distance (+-6 %), centring (+-3 % of the side), exposure (+-8 %).
    """
    grey = rng.uniform(222, 250)
    tint = grey + rng.uniform(-4, 4, 3)
    zoom, right, down = rng.uniform((0.95, -0.03, -0.03), (1.07, 0.03, 0.03))
    exposure = rng.uniform(0.92, 1.08)

    canvas = cv2.multiply(cv2.merge([table.floor] * 3), (*tint, 0), scale=1 / 255)
    product = cv2.remap(atlas, *table.texels, cv2.INTER_LINEAR)
    product = cv2.multiply(product, table.shade, scale=1 / 128)
    product = cv2.add(product, table.shine)
    cv2.copyTo(product, table.mask, canvas[table.rows, table.columns])
    # Moving and scaling the traced square stands for moving the camera a little: averaging it down
    # to the picture happens anyway.
    side = round(SUPERSAMPLE * size * zoom)
    slack = (canvas.shape[0] - side) / 2
    top, left = (round(slack + SUPERSAMPLE * size * shift) for shift in (down, right))
    window = canvas[top : top + side, left : left + side]
    picture = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(picture, alpha=exposure)  # type: ignore[return-value]


PRODUCTS_A_TASK = 16  # artwork held at once by a process: 16 x 2 MB, and a table serves all of them
DONE, UNFINISHED = "rendered.json", "rendering.json"


def render_dataset(
    out: str | Path,
    *,
    products: int = 24,
    size: int = 256,
    seed: int = 0,
    rolls: int = 24,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Render made-up products into ``out``, in the competition's layout, unless they are there.

    Written are ``train/<label>/<n>.jpg`` (``2 * rolls`` a product, pitch 0 and 30 degrees),
    ``test/<n>.jpg`` (``3 * rolls`` a product, pitch 0, 30 and 60, at rolls in between),
    ``sample.csv``, ``views.csv`` (``id,label,roll,pitch,split``, with the test's answers) and
    ``catalogue.csv``. The bytes depend on ``products``, ``size``, ``seed`` and ``rolls`` alone. An
    interrupted call goes on where it was; of several calls at once one renders and the rest wait.

    With more than one process the caller's main module is imported by each of them (Python's
    "spawn"): guard a script with ``if __name__ == "__main__"``.

    Args:
        products: number of products (classes), 2 to `catalogue.MOST_PRODUCTS`.
        size: side of the square pictures in pixels, 32 to 1024.
        seed: which shop; 0 or more.
        rolls: turntable positions for each pitch, 1 to 360.
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
        "rolls": (1, 360),
    }
    given = {"products": products, "size": size, "seed": seed, "rolls": rolls}
    for name, (low, high) in limits.items():
        if not low <= given[name] <= high:
            raise UserError(
                f"{name}={given[name]} cannot be rendered: it must be from {low} to {high}."
            )
    if processes is not None and processes < 1:
        raise UserError(f"processes={processes} is not possible: it must be 1 or more.")
    parameters = {"renderer": RENDERER, **given}
    try:
        if _read(out / DONE) == parameters:
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{out}.lock"):
            if _claim(out, parameters):
                require_packages()
                _render_missing(out, given, processes or _cpus(), progress)
                os.replace(out / UNFINISHED, out / DONE)
    except OSError as error:
        raise UserError(
            f"Cannot write rendered products to {out}: {error.strerror or error}. Free some space or "
            "name another folder (out=...); the same call goes on from the pictures already made."
        ) from error
    except BrokenProcessPool:
        raise UserError(
            f"A process that rendered into {out} was killed, perhaps for want of memory: give a smaller "
            "processes=...; the same call goes on from the pictures already made."
        ) from None
    return out


def _cpus() -> int:
    """CPUs that this process may use, which in a container or a job can be few of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(marker: Path) -> dict[str, int] | None:
    """The parameters in a marker file; None where there is none."""
    try:
        return json.loads(marker.read_text())  # type: ignore[no-any-return]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # not ours, or damaged: it matches no parameters
        return {}


def _claim(out: Path, parameters: dict[str, int]) -> bool:
    """Whether there is anything to render; then ``out`` carries the marker of an unfinished set."""
    for marker in (DONE, UNFINISHED):
        held = _read(out / marker)
        if held == parameters:
            return marker == UNFINISHED
        if held is not None:
            words = " ".join(f"{name}={value}" for name, value in held.items())
            raise UserError(
                f"{out} holds {'a' if marker == DONE else 'an unfinished'} set of products rendered "
                f"with other parameters ({words}): name another folder, or delete this one."
            )
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{out} holds files that are not a set of rendered products: name another folder, or empty "
            "this one."
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


def _render_missing(out: Path, given: dict[str, int], processes: int, progress: bool) -> None:
    catalogue = build_catalogue(given["products"], given["seed"])
    views = list(list_views(given["products"], given["rolls"], given["seed"]))
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
        (out, task, [todo[p.label] for p in task], given["size"], given["seed"]) for task in tasks
    ]
    total, missing = len(views), sum(map(len, todo.values()))
    with tqdm(
        total=total, initial=total - missing, unit=" pictures", desc=str(out), disable=not progress
    ) as bar:
        if processes == 1 or len(work) < 2:
            for task in work:
                for made in _render_task(*task):
                    bar.update(made)
            return
        spawn = multiprocessing.get_context("spawn")
        counter, stop = spawn.Value("q", 0), spawn.Event()
        with ProcessPoolExecutor(
            min(processes, len(work)), spawn, _start_worker, (counter, stop)
        ) as pool:
            futures = {pool.submit(_work, *task) for task in work}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)
                    bar.update(counter.value - (bar.n - bar.initial))
                    for future in done:
                        future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


def _split(products: list[Product], processes: int) -> list[list[Product]]:
    """Tasks of products of one form, so that one table serves them all, about equal for each process."""
    forms: dict[tuple[str, str], list[Product]] = {}
    for product in products:
        forms.setdefault((product.shape, product.form), []).append(product)
    most = min(PRODUCTS_A_TASK, -(-len(products) // processes))
    return [
        same[start : start + most] for same in forms.values() for start in range(0, len(same), most)
    ]


def _render_task(
    out: Path, products: list[Product], views: list[list[View]], size: int, seed: int
) -> Iterator[int]:
    """Render ``views[i]`` of ``products[i]``, all of one form, pose by pose; yields pictures made."""
    shape = FORMS[products[0].shape, products[0].form]
    atlases = {product.label: draw_atlas(product, size) for product in products}
    poses: dict[tuple[float, float], list[View]] = {}
    for view in chain.from_iterable(views):
        poses.setdefault((view.pitch, view.roll), []).append(view)

    def by_traced_pose(pose: tuple[float, float]) -> tuple[float, float, float]:
        pitch, roll = pose
        return pitch, roll % shape.period if shape.period else 0.0, roll

    for pitch, roll in sorted(poses, key=by_traced_pose):
        table = lookup(shape, roll, pitch, size)
        for view in poses[pitch, roll]:
            rng = np.random.default_rng((seed, 2, view.label, view.split == "test", view.number))
            picture = draw(table, atlases[view.label], size, rng)
            _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            _write(out / view.id, encoded.tobytes())
        yield len(poses[pitch, roll])


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
