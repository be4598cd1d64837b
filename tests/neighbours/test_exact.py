"""Exact search in blocks: results do not depend on the blocks, and memory stays small."""

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from product_cls.neighbours.exact import nearest_and_farthest, search_exact

BLOCKS = [(4096, 4096), (1, 1), (7, 5), (13, 300), (40, 1)]


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_rows(seed: int, rows: int, dimension: int = 24) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(rows, dimension)))


def brute_force(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search with the whole matrix in float64; rows that tie in float32 are ordered by position."""
    similarity = (queries.astype(np.float64) @ gallery.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, order, axis=1), order


@pytest.mark.parametrize("k", [1, 5, 300])
def test_agrees_with_brute_force(k: int) -> None:
    queries, gallery = random_rows(0, 40), random_rows(1, 300)
    neighbours = search_exact(queries, gallery, k)
    similarity, position = brute_force(queries, gallery, k)
    assert neighbours.similarity.dtype == np.float32 and neighbours.position.dtype == np.int64
    np.testing.assert_array_equal(neighbours.position, position)
    np.testing.assert_allclose(neighbours.similarity, similarity, atol=1e-6)
    assert (np.diff(neighbours.similarity, axis=1) <= 0).all()


def test_device_without_float64_searches_on_the_cpu() -> None:
    queries, gallery = random_rows(0, 4), random_rows(1, 30)
    neighbours = search_exact(queries, gallery, 3, device=torch.device("mps"))
    np.testing.assert_array_equal(neighbours.position, brute_force(queries, gallery, 3)[1])


@pytest.mark.parametrize("blocks", BLOCKS)
def test_positions_do_not_depend_on_block_sizes(blocks: tuple[int, int]) -> None:
    queries, gallery = random_rows(2, 15), random_rows(3, 51)
    gallery = np.concatenate([gallery, gallery[::-1]])  # each row twice
    sizes = {"query_block": blocks[0], "gallery_block": blocks[1]}
    neighbours = search_exact(queries, gallery, 7, **sizes)
    similarity, position = brute_force(queries, gallery, 7)
    np.testing.assert_array_equal(neighbours.position, position)
    np.testing.assert_allclose(neighbours.similarity, similarity, atol=1e-6)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_order_of_rows_that_float32_cannot_distinguish(blocks: tuple[int, int]) -> None:
    """Rows 1e-7 apart in similarity, the best last: float32 sums of 3,000 terms mix them up."""
    rng = np.random.default_rng(4)
    queries = normalised(np.abs(rng.normal(size=(5, 3000))))
    gallery = normalised(queries[:1] + 1e-4 * rng.normal(size=(8, 3000)))
    sizes = {"query_block": blocks[0], "gallery_block": blocks[1]}
    neighbours = search_exact(queries, gallery, 4, **sizes)
    np.testing.assert_array_equal(neighbours.position, brute_force(queries, gallery, 4)[1])


def test_equal_rows_are_ordered_by_position() -> None:
    gallery = np.tile(random_rows(5, 1), (500, 1))  # a network that learnt nothing
    neighbours = search_exact(gallery[:3], gallery, 4)
    assert neighbours.position.tolist() == [[0, 1, 2, 3]] * 3
    np.testing.assert_allclose(neighbours.similarity, 1, atol=1e-6)


def test_farthest_row() -> None:
    queries, gallery = random_rows(6, 20), random_rows(7, 90)
    nearest, farthest = nearest_and_farthest(queries, gallery, 3, query_block=6, gallery_block=11)
    np.testing.assert_allclose(farthest, (queries @ gallery.T).min(axis=1), atol=1e-6)
    np.testing.assert_array_equal(nearest.position, search_exact(queries, gallery, 3).position)


def test_reduced_precision_is_switched_off_and_restored() -> None:
    queries, gallery = random_rows(8, 30, 256), random_rows(9, 60, 256)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            neighbours = search_exact(queries, gallery, 3)
            assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(
        neighbours.similarity, brute_force(queries, gallery, 3)[0], atol=1e-6
    )


def test_read_only_maps_without_a_warning(tmp_path: Path) -> None:
    queries, gallery = random_rows(10, 9), random_rows(11, 50)
    for name, rows in (("queries", queries), ("gallery", gallery)):
        np.save(tmp_path / f"{name}.npy", rows)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("queries", "gallery")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neighbours = search_exact(*maps, 4, query_block=4, gallery_block=16)
    np.testing.assert_array_equal(neighbours.position, brute_force(queries, gallery, 4)[1])


def test_half_precision_embeddings_are_multiplied_as_float32() -> None:
    queries, gallery = (random_rows(seed, 30).astype(np.float16) for seed in (12, 13))
    neighbours = search_exact(queries, gallery, 2)
    np.testing.assert_allclose(
        neighbours.similarity, brute_force(queries, gallery, 2)[0], atol=1e-6
    )


class LargestTensor(TorchFunctionMode):
    """Numbers in the largest tensor that any call returned."""

    numbers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_whole_matrix_is_never_built() -> None:
    queries, gallery = random_rows(14, 1000, 8), random_rows(15, 1500, 8)
    search_exact(queries[:5], gallery, 2)  # warm-up: what torch loads does not count
    tracemalloc.start()
    with LargestTensor() as largest:
        search_exact(queries, gallery, 2, query_block=100, gallery_block=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest.numbers == 100 * 50
    assert peak < 1000 * 1500 * 4 / 20  # bytes of numpy; the whole matrix would be 6 MB


def test_no_queries() -> None:
    assert search_exact(random_rows(0, 1)[:0], random_rows(0, 5), 2).position.shape == (0, 2)


def test_refused_arguments(refused: Any) -> None:
    rows = random_rows(16, 5)
    with refused("gallery is empty", "at least one"):
        search_exact(rows, rows[:0], 1)
    for k in (0, 6):
        with refused(f"k={k}", "1 to 5"):
            search_exact(rows, rows, k)
    with refused("queries have 3 dimensions", "gallery has 24"):
        search_exact(rows[:, :3], rows, 1)
    broken = rows.copy()
    broken[3, 2] = np.nan
    with refused("Row 3 of the queries", "NaN"):
        search_exact(broken, rows, 1)
    broken[3, 2] = np.inf
    with refused("Row 3 of the gallery", "infinite"):
        search_exact(rows, broken, 1, gallery_block=2)
