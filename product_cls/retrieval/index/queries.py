"""Pictures to search for, with their labels if known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from product_cls.core.names import nfc
from product_cls.data.incoming import is_image_table, list_images, read_image_table


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
    by_name = {nfc(name): name for name in classes}
    if source.is_dir():
        tops = [path.relative_to(source).parts[0] for _, path in images]
        labels = [by_name.get(nfc(top)) for top in tops]
    elif is_image_table(source):
        table = read_image_table(source)
        if "label" in table:
            given = table["label"].astype(object).where(table["label"].notna(), None)
            labels = [label and by_name.get(nfc(label), label) for label in given]
    return [Query(*image, label) for image, label in zip(images, labels, strict=True)]
