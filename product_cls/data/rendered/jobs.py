"""Distribute the missing pictures of a set over worker processes."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from product_cls.core.files import write_bytes_whole
from product_cls.data.rendered.artwork import draw_atlas
from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.difficulty import Knobs
from product_cls.data.rendered.picture import draw_product
from product_cls.data.rendered.render import lookup
from product_cls.data.rendered.shapes import FORMS
from product_cls.data.rendered.views import View
from product_cls.data.synthetic_pool import make_all

JPEG_QUALITY = 92
# Products per task. A task holds all their artwork in memory (2 MB each at 256 pixels) and uses one
# lookup table for them; larger pictures mean fewer products.
PRODUCTS_A_TASK, AT_SIZE = 16, 256


def render_missing(
    out: Path,
    catalogue: list[Product],
    views: list[View],
    *,
    size: int,
    seed: int,
    knobs: Knobs,
    processes: int,
    progress: bool,
) -> None:
    """Render the ``views`` missing in ``out``; their folders must exist."""
    todo: dict[int, list[View]] = {}
    for view in views:
        if not (out / view.id).exists():
            todo.setdefault(view.label, []).append(view)
    tasks = _split([p for p in catalogue if p.label in todo], processes, size)
    work = [(out, task, [todo[p.label] for p in task], size, seed, knobs) for task in tasks]
    make_all(
        _render_task,
        work,
        out=out,
        total=len(views),
        missing=sum(map(len, todo.values())),
        processes=processes,
        progress=progress,
    )


def _split(products: list[Product], processes: int, size: int) -> list[list[Product]]:
    """Split products into tasks of one form each, so that one lookup table serves a task."""
    forms: dict[tuple[str, str, str], list[Product]] = {}
    for product in products:
        forms.setdefault((product.shape, product.form, product.size), []).append(product)
    held = max(PRODUCTS_A_TASK * AT_SIZE**2 // max(size, AT_SIZE) ** 2, 1)
    most = min(held, -(-len(products) // processes))
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
    """Render ``views[i]`` of ``products[i]``, all of one form; yields a picture count per pose."""
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
            picture = draw_product(
                table,
                atlases[view.label],
                size,
                rng,
                items=knobs.items,
                light=knobs.light,
                jitter=knobs.jitter,
            )
            _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            write_bytes_whole(out / view.id, encoded.tobytes())
        yield len(poses[pitch, roll])
