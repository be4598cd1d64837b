"""Contact sheets of a rendered data set.

One sheet per shape and one per camera pitch, the most similar products, and the test pictures
nearest to a training picture.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from product_cls.data.pictures import load_picture, resize
from product_cls.display.contact_sheet import contact_sheet

THUMBNAIL = 32  # side in pixels of the thumbnails that compare test and training pictures
SMALL = 16  # the same for comparing all products with each other
PAIRS = 12  # most similar pairs shown
COLUMNS = 8
POSES_A_PRODUCT = 4  # rolls that a sheet of shapes shows at each pitch


def nearest_training(root: str | Path, views: pd.DataFrame) -> pd.DataFrame:
    """For each test picture, the nearest training picture of its product and the near-twins.

    Args:
        root: folder of the rendered data set.
        views: its ``views.csv``, with the column ``twin_group`` of its ``catalogue.csv``.

    Returns:
        Columns ``test``, ``train`` (ids) and ``distance``, nearest first. The distance is the root
        mean square difference of thumbnails of 32 x 32 pixels, in grey levels, 0 to 255; 0 means a
        copy.
    """
    parts = []
    for _, group in views.groupby("twin_group"):
        train, test = (group[group.split == split] for split in ("train", "test"))
        gallery, queries = (_thumbnails(Path(root), part.id.tolist()) for part in (train, test))
        square = (
            (queries**2).mean(1)[:, None]
            + (gallery**2).mean(1)
            - 2 * queries @ gallery.T / (gallery.shape[1])
        )
        nearest = square.argmin(1)
        distance = np.sqrt(np.maximum(square[np.arange(len(test)), nearest], 0))
        parts.append(
            pd.DataFrame(
                {"test": test.id.array, "train": train.id.array[nearest], "distance": distance}
            )
        )
    return pd.concat(parts).sort_values("distance", ignore_index=True)


def nearest_twins(root: str | Path, views: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` pairs of products whose training pictures differ least, pose by pose.

    Returns:
        Columns ``first``, ``second`` (labels) and ``distance`` as in ``nearest_training``.
    """
    train = views[views.split == "train"].sort_values(["pitch", "roll"])
    labels = sorted(train.label.unique())
    thumbnails = np.stack(
        [
            _thumbnails(Path(root), train[train.label == label].id.tolist(), SMALL)
            for label in labels
        ]
    ).reshape(len(labels), -1)
    norms = (thumbnails**2).mean(1)
    square = norms[:, None] + norms - 2 * thumbnails @ thumbnails.T / thumbnails.shape[1]
    first, second = np.triu_indices(len(labels), 1)
    nearest = square[first, second].argsort()[:count]
    return pd.DataFrame(
        {
            "first": np.array(labels)[first[nearest]],
            "second": np.array(labels)[second[nearest]],
            "distance": np.sqrt(np.maximum(square[first, second][nearest], 0)),
        }
    )


def write_sheets(root: str | Path, out: str | Path) -> list[str]:
    """Write all sheets of the rendered data set ``root`` into ``out``.

    Returns:
        The path of each sheet, then a sentence about the distance to the nearest training picture.
    """
    root, out = Path(root), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    views = pd.read_csv(root / "views.csv")
    catalogue = pd.read_csv(root / "catalogue.csv", index_col="label")
    views["twin_group"] = catalogue.twin_group.loc[views.label].to_numpy()
    for earlier in (*out.glob("shape-*.png"), *out.glob("pitch-*.png")):  # perhaps of another set
        earlier.unlink()
    lines = []

    def save(
        name: str, ids: Sequence[str], captions: Sequence[Sequence[str]], columns: int
    ) -> None:
        pictures = (load_picture(root / id_) for id_ in ids)
        contact_sheet(pictures, captions, columns=columns).save(out / f"{name}.png")
        lines.append(f"{out / name}.png")

    def show(name: str, rows: pd.DataFrame, columns: int) -> None:
        products = catalogue.loc[rows.label]
        captions = [
            (str(product), f"{size}, {amount}", f"pitch {pitch:g}, roll {roll:g}")
            for product, size, amount, pitch, roll in zip(
                products.name_en,
                products["size"],
                products.amount,
                rows.pitch,
                rows.roll,
                strict=True,
            )
        ]
        save(name, rows.id.tolist(), captions, columns)

    test = views[views.split == "test"].sort_values(["label", "pitch", "roll"])
    for shape, of_shape in catalogue.groupby("shape"):
        # One product of each form and size, at rolls spread over the full turn.
        examples = of_shape.reset_index().drop_duplicates(["form", "size"]).label
        all_rolls = np.sort(test.roll.unique())
        rolls = all_rolls[np.arange(POSES_A_PRODUCT) * len(all_rolls) // POSES_A_PRODUCT]
        rows = test[test.label.isin(examples) & test.roll.isin(rolls)]
        show(f"shape-{shape}", rows, columns=3 * POSES_A_PRODUCT)
    for pitch, at_pitch in test.groupby("pitch"):
        show(f"pitch-{pitch:g}", at_pitch.groupby("label").head(1), columns=COLUMNS)

    poses = [(0.0, test.roll.min()), (60.0, test.roll.min())]
    pairs = nearest_twins(root, views, PAIRS)
    twins = [
        test[(test.label == label) & (test.pitch == pitch) & (test.roll == roll)]
        for pair in pairs.itertuples()
        for pitch, roll in poses
        for label in (pair.first, pair.second)
    ]
    show("twins", pd.concat(twins), columns=2 * len(poses))

    nearest = nearest_training(root, views)
    closest = nearest.head(PAIRS)
    ids = closest[["test", "train"]].to_numpy().ravel().tolist()
    captions = [
        (id_, f"{distance:.1f} grey levels")
        for id_, distance in zip(ids, closest.distance.repeat(2), strict=True)
    ]
    save("copies", ids, captions, columns=COLUMNS)
    lines.append(
        f"Distance of a test picture to its nearest training picture: at least "
        f"{nearest.distance.iloc[0]:.1f} grey levels, median {nearest.distance.median():.1f} "
        f"({len(nearest)} pictures; 0 would be a copy)."
    )
    return lines


def _thumbnails(root: Path, ids: list[str], side: int = THUMBNAIL) -> NDArray[np.float32]:
    """Float32 ``[N, side * side * 3]`` in grey levels, 0 to 255."""
    small = [resize(load_picture(root / id_), (side, side)) for id_ in ids]
    return np.stack(small).reshape(len(ids), -1).astype(np.float32)
