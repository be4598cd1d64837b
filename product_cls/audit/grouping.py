"""Pictures that should share a fold: copies of one shot, bursts and frames of films."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

BURST = 3.0  # seconds between two pictures of a burst, by their EXIF times


class Groups:
    """Disjoint sets of N positions that are joined pair by pair."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, k: int) -> int:
        """The smallest position of the set that holds ``k``."""
        while self._parent[k] != k:
            self._parent[k] = self._parent[self._parent[k]]
            k = self._parent[k]
        return k

    def join(self, a: int, b: int) -> None:
        """Join the sets of two positions."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low

    def numbers(self) -> np.ndarray:
        """The smallest position of each position's set, int64 ``[N]``."""
        return np.array([self.find(k) for k in range(len(self._parent))], dtype=np.int64)


def propose_groups(
    count: int,
    pairs: Iterable[tuple[int, int]],
    folder: Sequence[str],
    taken: np.ndarray,
    given: Sequence[object] | None = None,
) -> np.ndarray:
    """Numbers of the groups of N pictures.

    Args:
        count: N.
        pairs: pictures that show the same shot.
        folder: of each picture, text ``[N]``; bursts are looked for inside a folder.
        taken: seconds, float ``[N]``; NaN if unknown.
        given: groups that the data set has already, which stay together.

    Returns:
        int64 ``[N]``, the position of a group's first picture.
    """
    groups = Groups(count)
    for a, b in pairs:
        groups.join(a, b)
    if given is not None:
        first: dict[object, int] = {}
        for k, name in enumerate(given):
            groups.join(k, first.setdefault(name, k))
    known = [k for k in range(count) if not np.isnan(taken[k])]
    known.sort(key=lambda k: (folder[k], taken[k]))
    for a, b in itertools.pairwise(known):
        if folder[a] == folder[b] and taken[b] - taken[a] <= BURST:
            groups.join(a, b)
    return groups.numbers()
