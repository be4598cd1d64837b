"""What every solid has: a signed distance, and panels of artwork that its surface is covered with.

Lengths are in product heights (about 1), angles in degrees. The frame of a product has its origin
at the product's centre: x to the right and z up as seen by the camera at roll 0, y away from it, so
that the front looks towards -y.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Panel:
    """A flat piece of artwork of ``width`` x ``height``; ``gloss`` in [0, 1] is its shine."""

    name: str
    width: float
    height: float
    gloss: float


class Shape(Protocol):
    """A solid around the origin, described by its signed distance and its panels of artwork."""

    panels: tuple[Panel, ...]
    height: float  # along z
    radius: float  # of the smallest cylinder about z that holds it
    period: float  # smallest roll, in degrees, that maps the bare solid onto itself; 0: any roll

    def __hash__(self) -> int: ...

    def distance(self, points: Floats) -> Floats:
        """Signed distance (a lower bound outside is enough) of points [3, N] -> [N]."""

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Panel index, u and v in [0, 1] (u to the right, v down) of surface points [3, N]."""
