"""A contact sheet of misclassified pictures, for trackers without tables of pictures."""

from collections.abc import Sequence

import numpy as np

from product_cls.display.contact_sheet import contact_sheet
from product_cls.tracking.findings import WrongPicture, thumbnail

SHOWN = 20


def wrong_sheet(wrong: Sequence[WrongPicture]) -> np.ndarray | None:
    """The first ``SHOWN`` pictures with their target and decision.

    Returns:
        RGB, uint8 ``[h, w, 3]``; None if no picture can be read.
    """
    pictures, captions = [], []
    for mistake in wrong[:SHOWN]:
        if (picture := thumbnail(mistake.path)) is None:
            continue
        pictures.append(picture)
        view = f", view {mistake.view}" if mistake.view else ""
        captions.append([f"is {mistake.target}{view}", f"taken for {mistake.decided}", mistake.id])
    return np.asarray(contact_sheet(pictures, captions)) if pictures else None
