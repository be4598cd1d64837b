"""Interface of a solid: a signed distance function and panels of artwork on its surface.

Lengths are in product heights (about 1), angles in degrees. The product's frame has its origin at
the product's centre. Seen by the camera at roll 0, x points right, z up and y away from the camera,
so the front faces -y.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Panel:
    """Flat artwork of ``width`` x ``height``, in product heights; ``gloss`` is in [0, 1]."""

    name: str
    width: float
    height: float
    gloss: float


class Shape(Protocol):
    """A solid around the origin with a signed distance and panels of artwork."""

    panels: tuple[Panel, ...]
    height: float  # along z
    radius: float  # of the smallest cylinder about z that contains the solid
    period: float  # smallest roll, in degrees, that maps the bare solid onto itself; 0: any roll

    def __hash__(self) -> int: ...

    def distance(self, points: Floats) -> Floats:
        """Signed distance [N] of points [3, N]; outside, a lower bound is enough."""

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Panel index, u (right) and v (down) in [0, 1], each [N], of surface points [3, N]."""
