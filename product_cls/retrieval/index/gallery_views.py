"""Gallery pictures shown once more from other camera angles, for ``gallery_views=``.

A product that joins an index with a few pictures is known from their angles only. Copies that are
tilted as a camera at another pitch would see them are rows of their own, named after their picture:
``new-1/3.jpg#pitch30``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_cls.core.errors import UserError

if TYPE_CHECKING:  # arguments are checked before torch is imported
    from product_cls.retrieval.index.store import GalleryIndex

STEEPEST = 75.0  # degrees
MARK = re.compile(r"#pitch(-?\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class GalleryPicture:
    """A picture to add to an index.

    Attributes:
        id: of its row.
        path: picture file.
        label: its product.
    """

    id: str
    path: Path
    label: str

    @property
    def pitch(self) -> float:
        """Degrees that the camera rises; 0 for the picture as it is."""
        found = MARK.search(self.id)
        return float(found[1]) if found else 0.0


def check_pitches(pitches: Sequence[float] | None) -> None:
    """Check ``gallery_views``.

    Raises:
        UserError: an angle out of range, of 0, or listed twice.
    """
    for pitch in pitches or []:
        if not -STEEPEST <= pitch <= STEEPEST or pitch == 0:
            raise UserError(
                f"gallery_views=[{pitch:g}]; allowed: degrees from {-STEEPEST:g} to {STEEPEST:g}, "
                "without 0, which is always there."
            )
    if pitches and len(set(pitches)) < len(pitches):
        raise UserError(f"gallery_views={pitches} names an angle twice.")


def with_views(
    pictures: Sequence[GalleryPicture], pitches: Sequence[float]
) -> list[GalleryPicture]:
    """The pictures, and then all of them at each pitch."""
    copies = [
        GalleryPicture(f"{one.id}#pitch{pitch:g}", one.path, one.label)
        for pitch in pitches
        for one in pictures
    ]
    return [*pictures, *copies]


def pitches_of(index: GalleryIndex) -> list[float]:
    """Pitches of the views that the index has of the pictures of its runs, ascending."""
    ids = index.id[: len(index.id) - index.added].tolist()
    return sorted({float(found[1]) for name in ids if (found := MARK.search(name))})
