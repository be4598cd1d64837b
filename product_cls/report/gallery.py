"""``python -m product_cls.report.gallery``: sheets of a rendered set, for people to look at.

A sheet a shape and a camera pitch, the products most alike, and the test pictures that come nearest
to a training picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from product_cls.config.resolvers import rendered_name
from product_cls.core import cli
from product_cls.data.pictures import load_picture, resize
from product_cls.data.rendered import render_dataset
from product_cls.data.rendered.difficulty import Knobs
from product_cls.display.contact_sheet import contact_sheet

THUMBNAIL = 32  # pixels a side, in which test and training pictures are compared
SMALL = 16  # the same where all products are, at once
PAIRS = 12  # most alike, that are shown
COLUMNS = 8
POSES_A_PRODUCT = 4  # rolls that a sheet of shapes shows at each pitch


@dataclass
class Arguments:
    """Render products (unless they are there) and write sheets of them that a person can look at.

    products, size, seed, difficulty: of the set, as for python -m product_cls.data.rendered.
    root: where it is or will be; null: data/rendered-..., by its parameters.
    out: folder of the sheets.
    """

    products: int = 48
    size: int = 256
    seed: int = 0
    difficulty: str = "standard"
    root: str | None = None
    out: str = "data/gallery"


def nearest_training(root: str | Path, views: pd.DataFrame) -> pd.DataFrame:
    """For each test picture of a rendered set, the nearest training picture of its line (the same
    product and its near-twins).

    Args:
        root: of the set.
        views: its ``views.csv``, with the column ``twin_group`` of its ``catalogue.csv``.

    Returns:
        Columns ``test``, ``train`` (ids) and ``distance``: root mean square difference of the two
        as thumbnails of 32 x 32 pixels, in grey levels (0: a copy), nearest first.
    """
    found = []
    for _, of_line in views.groupby("twin_group"):
        train, test = (of_line[of_line.split == split] for split in ("train", "test"))
        known, asked = (_thumbnails(Path(root), part.id.tolist()) for part in (train, test))
        square = (
            (asked**2).mean(1)[:, None]
            + (known**2).mean(1)
            - 2 * asked @ known.T / (known.shape[1])
        )
        nearest = square.argmin(1)
        distance = np.sqrt(np.maximum(square[np.arange(len(test)), nearest], 0))
        found.append(
            pd.DataFrame(
                {"test": test.id.array, "train": train.id.array[nearest], "distance": distance}
            )
        )
    return pd.concat(found).sort_values("distance", ignore_index=True)


def nearest_twins(root: str | Path, views: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` pairs of products whose training pictures differ least, pose by pose.

    Returns:
        Columns ``first``, ``second`` (labels) and ``distance`` as in `nearest_training`.
    """
    train = views[views.split == "train"].sort_values(["pitch", "roll"])
    labels = sorted(train.label.unique())
    every = np.stack(
        [
            _thumbnails(Path(root), train[train.label == label].id.tolist(), SMALL)
            for label in labels
        ]
    ).reshape(len(labels), -1)
    square = (every**2).mean(1)
    apart = square[:, None] + square - 2 * every @ every.T / every.shape[1]
    first, second = np.triu_indices(len(labels), 1)
    nearest = apart[first, second].argsort()[:count]
    return pd.DataFrame(
        {
            "first": np.array(labels)[first[nearest]],
            "second": np.array(labels)[second[nearest]],
            "distance": np.sqrt(np.maximum(apart[first, second][nearest], 0)),
        }
    )


def write_gallery(root: str | Path, out: str | Path) -> list[str]:
    """Write all sheets of the rendered set ``root`` into ``out``; returns a line for each."""
    root, out = Path(root), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    views = pd.read_csv(root / "views.csv")
    catalogue = pd.read_csv(root / "catalogue.csv", index_col="label")
    views["twin_group"] = catalogue.twin_group.loc[views.label].to_numpy()
    for old in (*out.glob("shape-*.png"), *out.glob("pitch-*.png")):  # of another set, perhaps
        old.unlink()
    lines = []

    def save(
        name: str, ids: Sequence[str], captions: Sequence[Sequence[str]], columns: int
    ) -> None:
        pictures = (load_picture(root / one) for one in ids)
        contact_sheet(pictures, captions, columns=columns).save(out / f"{name}.png")
        lines.append(f"{out / name}.png")

    def show(name: str, chosen: pd.DataFrame, columns: int) -> None:
        about = catalogue.loc[chosen.label]
        captions = [
            (str(product), f"{size}, {amount}", f"pitch {pitch:g}, roll {roll:g}")
            for product, size, amount, pitch, roll in zip(
                about.name_en, about["size"], about.amount, chosen.pitch, chosen.roll, strict=True
            )
        ]
        save(name, chosen.id.tolist(), captions, columns)

    test = views[views.split == "test"].sort_values(["label", "pitch", "roll"])
    for shape, of_shape in catalogue.groupby("shape"):
        # A product of each form and size, all round at each pitch.
        examples = of_shape.reset_index().drop_duplicates(["form", "size"]).label
        every = np.sort(test.roll.unique())
        rolls = every[np.arange(POSES_A_PRODUCT) * len(every) // POSES_A_PRODUCT]
        chosen = test[test.label.isin(examples) & test.roll.isin(rolls)]
        show(f"shape-{shape}", chosen, columns=3 * POSES_A_PRODUCT)
    for pitch, at_pitch in test.groupby("pitch"):
        show(f"pitch-{pitch:g}", at_pitch.groupby("label").head(1), columns=COLUMNS)

    poses = [(0.0, test.roll.min()), (60.0, test.roll.min())]
    pairs = nearest_twins(root, views, PAIRS)
    sides = [
        test[(test.label == label) & (test.pitch == pitch) & (test.roll == roll)]
        for pair in pairs.itertuples()
        for pitch, roll in poses
        for label in (pair.first, pair.second)
    ]
    show("twins", pd.concat(sides), columns=2 * len(poses))

    near = nearest_training(root, views)
    closest = near.head(PAIRS)
    ids = closest[["test", "train"]].to_numpy().ravel().tolist()
    captions = [
        (one, f"{d:.1f} grey levels")
        for one, d in zip(ids, closest.distance.repeat(2), strict=True)
    ]
    save("copies", ids, captions, columns=COLUMNS)
    lines.append(
        f"Nearest training picture of a test picture: {near.distance.iloc[0]:.1f} grey levels away "
        f"at least, {near.distance.median():.1f} in the median ({len(near)} pictures; 0 is a copy)."
    )
    return lines


def _thumbnails(root: Path, ids: list[str], side: int = THUMBNAIL) -> NDArray[np.float32]:
    """[N, side * side * 3] grey levels."""
    small = [resize(load_picture(root / one), (side, side)) for one in ids]
    return np.stack(small).reshape(len(ids), -1).astype(np.float32)


def main() -> None:
    args = cli.parse_arguments(Arguments, prog="python -m product_cls.report.gallery")
    root = args.root or "data/" + rendered_name(
        args.products, args.size, args.difficulty, args.seed, *[None] * len(fields(Knobs))
    )
    render_dataset(
        root,
        products=args.products,
        size=args.size,
        seed=args.seed,
        difficulty=args.difficulty,
    )
    print("\n".join(write_gallery(root, args.out)))


if __name__ == "__main__":
    cli.guard(main)
