"""New pictures to predict, in batches."""

import threading
from pathlib import Path

import torch

from product_cls.data.incoming import read_batches


def test_the_next_batch_is_decoded_in_the_background() -> None:
    begun = threading.Event()

    def picture(path: Path) -> torch.Tensor:
        if path.name == "2":
            begun.set()
        if path.name == "3":
            raise OSError("torn")
        return torch.full((3, 2, 2), int(path.name))

    unreadable: dict[str, str] = {}
    images = [(f"name {k}", Path(str(k))) for k in range(5)]
    batches = read_batches(picture, images, 2, unreadable)
    first = next(batches)
    assert begun.wait(10)
    indices = [batch["index"].tolist() for batch in (first, *batches)]
    assert indices == [[0, 1], [2], [4]] and unreadable == {"name 3": "torn"}
    assert first["image"][:, 0, 0, 0].tolist() == [0, 1]
