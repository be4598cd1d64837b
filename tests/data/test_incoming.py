"""New pictures to predict, in batches."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from product_cls.data.incoming import decoded_batches, list_images


def test_a_pipe_is_not_opened(tmp_path: Path, refused: Any) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with refused("pipe.jpg is not a regular file"):
        list_images(tmp_path / "pipe.jpg")
    with refused("There is no folder or file", "nowhere"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "t.csv").write_text("path\npipe.jpg\n")
    assert list_images(tmp_path / "t.csv") == [("pipe.jpg", tmp_path / "pipe.jpg")]


def test_the_next_batch_is_decoded_in_the_background() -> None:
    begun = threading.Event()

    def pixels(number: int) -> np.ndarray:
        if number == 2:
            begun.set()
        if number in (3, 6, 7):
            raise OSError("torn")
        return np.full((2, 2, 3), number, np.uint8)

    unreadable: dict[int, str] = {}
    small, tall = ((2, 2), "squash"), ((4, 2), "squash")
    batches = decoded_batches(pixels, 9, {small, tall}, 2, unreadable.__setitem__)
    first = next(batches)
    assert begun.wait(10)
    numbers = [numbers for numbers, _ in (first, *batches)]
    assert numbers == [[0, 1], [2], [4, 5], [8]]  # a batch without a picture is skipped
    assert unreadable == {3: "torn", 6: "torn", 7: "torn"}
    assert first[1][small][:, 0, 0, 0].tolist() == [0, 1]
    assert first[1][tall].shape == (2, 3, 4, 2)
