"""Pictures to be named, with their labels where those are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from product_cls.data.incoming import list_images


@dataclass(frozen=True)
class Query:
    """A picture to be named.

    Attributes:
        label: its product where that is known; it need not be one of the index's.
    """

    name: str
    path: Path
    label: str | None


def list_queries(source: Path, classes: Sequence[str]) -> list[Query]:
    """Pictures of a folder, a CSV, or one picture, with their labels where those are known.

    Args:
        source: a folder whose folders are named by ``classes`` has labels; so has a CSV with a
            column ``label``, where empty cells are unknown.

    Raises:
        UserError: what ``list_images`` refuses.
    """
    images = list_images(source)
    labels: list[str | None] = [None] * len(images)
    if source.is_dir():
        known = set(classes)
        tops = [path.relative_to(source).parts[0] for _, path in images]
        labels = [top if top in known else None for top in tops]
    elif source.suffix.lower() == ".csv":
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
        if "label" in table:
            labels = [label or None for label in table["label"]]
    return [Query(*image, label) for image, label in zip(images, labels, strict=True)]
