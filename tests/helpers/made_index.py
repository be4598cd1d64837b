"""An index of random embeddings, for tests that need no network."""

import numpy as np

from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.store import GalleryIndex, Source


def made_index(count: int, dimension: int, *, kind: str = "exact") -> GalleryIndex:
    """Three products in turn; in memory, with a checkpoint that does not exist."""
    rows = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    return GalleryIndex(
        sources=[Source("run", "/absent.ckpt", "0", 1.0, ["identity"])],
        classes=["a", "b", "c"],
        kind=kind,
        vote=Vote(),
        rejection=None,
        id=np.array([f"{k}.jpg" for k in range(count)]),
        path=np.array([f"/data/{k}.jpg" for k in range(count)]),
        target=np.arange(count) % 3,
        embedding=rows / np.linalg.norm(rows, axis=1, keepdims=True),
    )
