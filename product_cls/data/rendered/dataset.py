"""Render whole sets of pictures: in parallel, resumable, each set only once."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from product_cls.core.cpu_count import usable_cores
from product_cls.data.rendered.artwork import require_packages
from product_cls.data.rendered.catalogue import MOST_PRODUCTS, build_catalogue
from product_cls.data.rendered.difficulty import choose_knobs
from product_cls.data.rendered.jobs import render_missing
from product_cls.data.rendered.picture import RENDERER
from product_cls.data.rendered.views import (
    TEST_PITCHES,
    TRAIN_PITCHES,
    list_views,
    write_tables,
)
from product_cls.data.synthetic_sets import SetKind, check_common, in_range, make_once

if TYPE_CHECKING:
    import pandas as pd

STEEPEST = 75.0  # degrees; steeper, products are little more than their lids
KIND = SetKind("rendered products", "rendered.json", "rendering.json")


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
    pitches: Sequence[float] | None = None,
    test_pitches: Sequence[float] | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Render products in the competition's layout, unless ``out`` already holds them.

    Writes ``train/<label>/<n>.jpg`` (``rolls`` per product and pitch, by default pitch 0 and 30
    degrees), ``test/<n>.jpg`` (the same, by default pitch 0, 30 and 60, at rolls in between),
    ``sample.csv``, ``views.csv`` (``id,label,roll,pitch,split``, including the test labels) and
    ``catalogue.csv`` (attributes of each product: labels for several heads). The bytes depend only
    on ``products``, ``size``, ``seed`` and the knobs (and on the versions of Pillow, OpenCV and
    NumPy). An interrupted call resumes. If several calls run at once, one renders and the others
    wait.

    With more than one process, each worker imports the caller's main module (Python's "spawn"):
    guard a script with ``if __name__ == "__main__"``.

    Args:
        products: number of products (classes), 2 to `catalogue.MOST_PRODUCTS`.
        size: side of the square pictures in pixels, 32 to 1024.
        seed: selects the shop; 0 or more.
        difficulty: preset of the knobs (`difficulty.PRESETS`): easy, standard or hard.
        rolls, twins, items, light, jitter: knobs (`difficulty.Knobs`) that replace the preset's.
        pitches, test_pitches: of the camera in the training and in the test pictures, in degrees,
            each 0 to 75; None for 0 and 30, and for 0, 30 and 60.
        processes: worker processes; None uses one per CPU available to this process.
        progress: show a progress bar.

    Returns:
        ``out``.

    Raises:
        ValueError: an argument is out of range.
        UserError: the folder holds something else or is not writable, or fonts or emoji are not
            installed.
    """
    out = Path(out).expanduser().absolute()
    in_range("products", products, 2, MOST_PRODUCTS)
    check_common(size, seed, processes)
    knobs = choose_knobs(
        difficulty, rolls=rolls, twins=twins, items=items, light=light, jitter=jitter
    )
    parameters: dict[str, Any] = {
        "renderer": RENDERER,
        "products": products,
        "size": size,
        "seed": seed,
        **asdict(knobs),
    }

    chosen = {"pitches": pitches, "test_pitches": test_pitches}
    # Sets with the usual pitches keep the parameters that they have always had.
    parameters |= {
        name: check_pitches(name, angles) for name, angles in chosen.items() if angles is not None
    }
    taken = parameters.get("pitches", TRAIN_PITCHES), parameters.get("test_pitches", TEST_PITCHES)

    def fill() -> None:
        catalogue = build_catalogue(products, seed, knobs.twins)
        views = list(list_views(products, knobs.rolls, seed, *taken))
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


def check_pitches(name: str, angles: Any) -> list[float]:
    """Pitches of the camera in degrees, checked.

    Raises:
        ValueError: none, one twice, or one that is out of range.
    """
    listed = list(angles) if isinstance(angles, Sequence) and not isinstance(angles, str) else []
    numbers = all(type(angle) in (int, float) and 0 <= angle <= STEEPEST for angle in listed)
    if not listed or not numbers or len(set(listed)) < len(listed):
        raise ValueError(
            f"{name}={angles}; allowed: a list of different angles, each 0 to {STEEPEST:g} degrees."
        )
    return [float(angle) for angle in listed]


def read_rendered(
    root: str | Path, *, test_share: float | None = None, **arguments: Any
) -> "pd.DataFrame":
    """Sample table of a rendered set; renders the set first if it is missing.

    Args:
        root: folder of the set.
        test_share: thins the test part, as a shop sells some products more often: each product
            keeps a random share of its test pictures, between this and 1. None keeps all.
        arguments: of ``render_dataset``; its errors are raised, too.

    Raises:
        ValueError: ``test_share`` is not above 0 and up to 1.
    """
    # Imported here: worker processes import this module and do not need pandas.
    from product_cls.data.readers import read_competition

    if test_share is not None and not 0 < test_share <= 1:
        raise ValueError(f"test_share={test_share}; allowed: above 0 to 1, or null for all.")
    render_dataset(root, **arguments)
    samples = read_competition(root)
    if test_share is None:
        return samples
    return thinned(samples, test_share, int(arguments.get("seed", 0)))


def thinned(samples: "pd.DataFrame", least: float, seed: int) -> "pd.DataFrame":
    """The sample table with a random share of the test pictures of each class.

    Args:
        samples: the sample table, with the labels of the test pictures.
        least: the smallest share, above 0; shares are uniform between it and 1.
        seed: of the shares and of the choice.
    """
    rng = np.random.default_rng(seed)
    test = samples["split"] == "test"
    dropped: list[int] = []
    for label in sorted(samples.loc[test, "label"].unique()):
        rows = samples.index[test & (samples["label"] == label)].to_numpy()
        keep = max(1, round(len(rows) * rng.uniform(least, 1)))
        dropped += rng.permutation(rows)[keep:].tolist()
    return samples.drop(index=dropped).reset_index(drop=True)
