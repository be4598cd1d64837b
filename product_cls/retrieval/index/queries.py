"""Pictures to search for, with their labels if known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from product_cls.data.incoming import list_images


@dataclass(frozen=True)
class Query:
    """A picture to search for.

    Attributes:
        name: for tables: the path relative to the folder, or as in the CSV.
        path: the picture file.
        label: its product, if known; the index need not have it.
    """

    name: str
    path: Path
    label: str | None


def list_queries(source: Path, classes: Sequence[str]) -> list[Query]:
    """Pictures of a folder or a CSV, or a single picture, with their labels if known.

    Args:
        source: a folder, whose subfolders named in ``classes`` are labels; a CSV, whose column
            ``label`` holds labels (an empty cell: unknown); or a picture.
        classes: products of the index.

    Raises:
        UserError: as in ``list_images``.
    """
    images = list_images(source)
    labels: list[str | None] = [None] * len(images)
    if source.is_dir():
        class_names = set(classes)
        tops = [path.relative_to(source).parts[0] for _, path in images]
        labels = [top if top in class_names else None for top in tops]
    elif source.suffix.lower() == ".csv":
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
        if "label" in table:
            labels = [label or None for label in table["label"]]
    return [Query(*image, label) for image, label in zip(images, labels, strict=True)]
