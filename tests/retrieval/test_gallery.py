"""Gallery files: damage is one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Refused

from product_cls.core.arrays import save_arrays
from product_cls.retrieval.gallery import Gallery

WHOLE: dict[str, Any] = {
    "id": np.array(["1", "2"]),
    "path": np.array(["/1", "/2"]),
    "target": np.array([0, 1]),
    "classes": np.array(["a", "b"]),
    "embedding": np.eye(2, dtype=np.float32),
    "embedding_no_tta": np.eye(2, dtype=np.float32),
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"embedding": np.full((2, 2), np.nan, np.float32)}, "embedding holds NaN or infinity"),
        ({"embedding": np.eye(3, dtype=np.float32)}, "embedding has 3 rows, and id has 2"),
        ({"embedding": np.ones(2, np.float32)}, "embedding is float32 [2]"),
        ({"embedding_no_tta": np.ones((2, 3), np.float32)}, "have different shapes"),
        ({"target": np.array([0, 2])}, "target names class 2 of 2"),
        ({"target": np.array(["0", "1"])}, "target is <U1 [2]"),
        ({"id": np.array([1, 2])}, "id is int64 [2]"),
        ({"surplus": np.zeros(1)}, "surplus"),
    ],
)
def test_damaged_galleries(
    tmp_path: Path, refused: Refused, changed: dict[str, Any], words: str
) -> None:
    save_arrays(tmp_path / "gallery.npz", WHOLE)
    assert Gallery.load(tmp_path / "gallery.npz").classes.tolist() == ["a", "b"]
    save_arrays(tmp_path / "gallery.npz", WHOLE | changed)
    with refused("gallery.npz is not a file of gallery embeddings", words):
        Gallery.load(tmp_path / "gallery.npz")
