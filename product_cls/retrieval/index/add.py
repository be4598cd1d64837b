"""Products to add to an index, those added earlier, and those that would lose its votes."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.core.names import nfc
from product_cls.data.listing import list_pictures
from product_cls.retrieval.index.gallery_views import GalleryPicture
from product_cls.retrieval.index.layout import META
from product_cls.retrieval.index.store import GalleryIndex


def list_products(folder: Path) -> list[tuple[Path, str]]:
    """Pictures and labels of a folder with one folder per product, ``folder/<label>/**/picture``.

    Raises:
        UserError: no such folder, no pictures, or loose pictures, which have no label.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} (add: pictures in one folder per product).")
    pictures = list_pictures(folder)
    if not pictures:
        raise UserError(f"{folder} holds no pictures; expected one folder of pictures per product.")
    if loose := [path for path in pictures if path.parent == folder]:
        raise UserError(
            f"{folder} holds {len(loose)} loose pictures, the first is {loose[0].name}; expected "
            "one folder per product."
        )
    return [(path, nfc(path.relative_to(folder).parts[0])) for path in pictures]


def added_earlier(folder: Path) -> tuple[list[GalleryPicture], str | None]:
    """The pictures that were added to an index after it was built, before it is built again.

    Args:
        folder: of an index that may exist.

    Returns:
        The pictures; and a sentence if the index cannot be read, so that nobody knows them.
    """
    if not (folder / META).is_file():
        return [], None
    try:
        index = GalleryIndex.open(folder)
    except UserError as error:
        return [], (
            f"{reason(error)}. It is replaced; pictures that were added to it have to be added "
            "again."
        )
    rows = range(len(index.id) - index.added, len(index.id))
    return [
        GalleryPicture(str(index.id[row]), Path(index.path[row]), index.classes[index.target[row]])
        for row in rows
    ], None


def outvoted_labels(index: GalleryIndex, labels: Collection[str]) -> list[str]:
    """The labels with too few pictures in the index to be sure of winning its vote."""
    # A tilted copy of a picture is near where the picture is, and helps it to win.
    pictures = np.bincount(index.target, minlength=len(index.classes))
    few = (name for name, n in zip(index.classes, pictures, strict=True) if n < index.vote.needed)
    return [name for name in few if name in labels]
