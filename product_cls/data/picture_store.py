"""The interface through which loaders read the pictures of a data set.

``ImageStore`` (decoded pictures in one memory-mapped file) and ``StreamStore`` (encoded pictures in
shards) both follow this protocol, so callers need not know which of the two they have.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from product_cls.data.samplers import EpochSampler


class PictureStore(Protocol):
    """Pictures by row, and samplers whose order suits the store."""

    @property
    def ids(self) -> list[str]:
        """Ids of the pictures; their positions are the rows."""
        ...

    @property
    def contents(self) -> str:
        """Digest of the pictures, wherever they are: stores with equal digests train alike."""
        ...

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of ``ids``, int64 ``[len(ids)]``.

        Raises:
            KeyError: the store does not hold one of the ids.
        """
        ...

    def picture(self, row: int) -> np.ndarray:
        """One picture, RGB uint8 ``[H, W, 3]``; the caller may change it."""
        ...

    def sampler(
        self, rows: np.ndarray, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> EpochSampler:
        """A sampler over positions in ``rows``, in an order that this store reads fast.

        Args:
            rows: int64 ``[N]``, rows of the store.
            shuffle: draw a new order for each epoch.
            seed, rank, world_size: as for ``EpochSampler``.
        """
        ...

    def check_room(self, rows: np.ndarray) -> None:
        """Refuse settings under which training on ``rows``, int64 ``[N]``, would thrash.

        Raises:
            ValueError: a cache holds less than training reads at a time.
        """
        ...


def rows_of(ids: Sequence[str], stored_ids: Sequence[str]) -> np.ndarray:
    """Positions of ``ids`` in ``stored_ids``, int64 ``[len(ids)]``.

    Raises:
        KeyError: an id that is not stored.
    """
    position = {name: row for row, name in enumerate(stored_ids)}
    return np.array([position[name] for name in ids], dtype=np.int64)
