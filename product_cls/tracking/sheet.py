"""Wrong pictures on one sheet, for trackers without tables of pictures."""

from collections.abc import Sequence

import numpy as np

from product_cls.display.contact_sheet import contact_sheet
from product_cls.tracking.findings import WrongPicture, thumbnail

SHOWN = 20


def wrong_sheet(wrong: Sequence[WrongPicture]) -> np.ndarray | None:
    """The first pictures with what they show and what they were taken for, uint8 ``[h, w, 3]``;
    None where there is none to show."""
    pictures, captions = [], []
    for one in wrong[:SHOWN]:
        if (picture := thumbnail(one.path)) is None:
            continue
        pictures.append(picture)
        view = f", view {one.view}" if one.view else ""
        captions.append([f"is {one.target}{view}", f"taken for {one.decided}", one.id])
    return np.asarray(contact_sheet(pictures, captions)) if pictures else None
