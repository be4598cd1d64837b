"""List the products to add to an index, and those that would lose its votes."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError
from product_cls.core.names import nfc
from product_cls.data.listing import list_pictures
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


def outvoted_labels(index: GalleryIndex, labels: Collection[str]) -> list[str]:
    """The labels with too few pictures in the index to be sure of winning its vote."""
    pictures = np.bincount(index.target, minlength=len(index.classes))
    few = (name for name, n in zip(index.classes, pictures, strict=True) if n < index.vote.needed)
    return [name for name in few if name in labels]
