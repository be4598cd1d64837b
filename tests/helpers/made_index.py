"""An index of random embeddings, for tests that need no network."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from product_cls.core.files import digest, file_checksum
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


def forge(folder: Path, meta: dict[str, Any]) -> None:
    """Write ``index.json`` with checksums that fit the files, as somebody who forges an index."""
    meta = {name: value for name, value in meta.items() if name != "checksum"}
    if isinstance(meta["files"], dict):
        files = {name: folder / name for name in meta["files"]}
        meta["files"] = {n: file_checksum(file) for n, file in files.items() if file.is_file()}
    try:
        sources = [{**source, "checkpoint": ""} for source in meta["sources"]]
        meta["checksum"] = digest({**meta, "sources": sources})
    except TypeError:  # sources of another kind, which have no checksum
        meta["checksum"] = ""
    (folder / "index.json").write_text(json.dumps(meta))
