"""Whole sets of pictures: rendered in parallel, resumed after an interruption, never twice."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product_cls.core.cpu_count import usable_cores
from product_cls.data.rendered.artwork import require_packages
from product_cls.data.rendered.catalogue import MOST_PRODUCTS, build_catalogue
from product_cls.data.rendered.difficulty import choose_knobs
from product_cls.data.rendered.jobs import render_missing
from product_cls.data.rendered.picture import RENDERER
from product_cls.data.rendered.views import list_views, write_tables
from product_cls.data.synthetic_sets import Kind, check_common, in_range, make_once

if TYPE_CHECKING:
    import pandas as pd

KIND = Kind("rendered products", "rendered.json", "rendering.json")


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
    check_common(size, seed, processes)
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

    def fill() -> None:
        catalogue = build_catalogue(products, seed, knobs.twins)
        views = list(list_views(products, knobs.rolls, seed))
        (out / "test").mkdir(exist_ok=True)
        for product in catalogue:
            (out / "train" / str(product.label)).mkdir(parents=True, exist_ok=True)
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

    make_once(out, KIND, parameters, require=require_packages, fill=fill)
    return out


def read_rendered(root: str | Path, **arguments: Any) -> "pd.DataFrame":
    """The sample table of a rendered set, which is made first where it is missing.

    Arguments and errors: ``render_dataset``.
    """
    # Workers import this module; they have no use for pandas.
    from product_cls.data.readers import read_competition

    render_dataset(root, **arguments)
    return read_competition(root)
