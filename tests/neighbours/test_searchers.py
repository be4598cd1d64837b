"""FAISS searchers: agreement with exact search, recall, files, added rows."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from product_cls.neighbours.exact import search_exact
from product_cls.neighbours.searchers import (
    ExactSearcher,
    build_searcher,
    load_searcher,
    save_searcher,
)

FAISS_KINDS = ["flat", "hnsw", "ivfpq"]


def clustered(rows: int, seed: int, dimension: int = 32) -> np.ndarray:
    """Rows around 50 centres along 4 directions, as a product turns; the same for every seed."""
    shared, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres, directions = shared.normal(size=(50, dimension)), shared.normal(size=(4, dimension))
    turned = rng.normal(size=(rows, 4)) @ directions / 4
    embeddings = centres[np.arange(rows) % 50] + turned + rng.normal(size=(rows, dimension)) / 20
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def gallery() -> np.ndarray:
    return clustered(1200, seed=1)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return clustered(200, seed=2)


@pytest.fixture(scope="module")
def built(gallery: np.ndarray) -> dict[str, Any]:
    pytest.importorskip("faiss")
    return {kind: build_searcher(kind, gallery) for kind in FAISS_KINDS}


def test_exact_is_search_exact(gallery: np.ndarray, queries: np.ndarray) -> None:
    searcher = build_searcher("exact", gallery, device=torch.device("cpu"))
    assert (searcher.kind, searcher.count) == ("exact", 1200)
    result, expected = searcher.search(queries, 5), search_exact(queries, gallery, 5)
    np.testing.assert_array_equal(result.position, expected.position)


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.99), ("ivfpq", 0.95)])
def test_recall(
    kind: str, least: float, built: dict[str, Any], gallery: np.ndarray, queries: np.ndarray
) -> None:
    searcher = built[kind]
    assert (searcher.kind, searcher.count) == (kind, 1200)
    result, expected = searcher.search(queries, 5), search_exact(queries, gallery, 5)
    assert result.similarity.dtype == np.float32 and result.position.dtype == np.int64
    assert (np.diff(result.similarity, axis=1) <= 0).all()
    assert np.mean((result.position == expected.position[:, :1]).any(axis=1)) >= least
    # Even if a search misses the picture, it finds the class.
    assert np.mean(result.position[:, 0] % 50 == np.arange(200) % 50) == 1
    if kind != "ivfpq":
        same = result.position == expected.position
        np.testing.assert_allclose(result.similarity[same], expected.similarity[same], atol=1e-6)


def test_flat_is_exact(built: dict[str, Any], gallery: np.ndarray, queries: np.ndarray) -> None:
    result, expected = built["flat"].search(queries, 20), search_exact(queries, gallery, 20)
    np.testing.assert_allclose(result.similarity, expected.similarity, atol=1e-6)
    assert (
        np.mean(result.position == expected.position) > 0.995
    )  # float32 rounds some pairs of rows to the same value


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_building_is_deterministic(
    kind: str, built: dict[str, Any], gallery: np.ndarray, queries: np.ndarray
) -> None:
    first, second = built[kind].search(queries, 5), build_searcher(kind, gallery).search(queries, 5)
    np.testing.assert_array_equal(first.position, second.position)
    np.testing.assert_array_equal(first.similarity, second.similarity)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_saved_index_is_opened(
    kind: str,
    mapped: bool,
    built: dict[str, Any],
    queries: np.ndarray,
    tmp_path: Path,
    refused: Any,
) -> None:
    file = tmp_path / "deep" / "products.faiss"
    save_searcher(built[kind], file)
    assert [path.name for path in file.parent.iterdir()] == ["products.faiss"]
    opened = load_searcher(file, mapped=mapped)
    assert (opened.kind, opened.count) == (kind, 1200)
    np.testing.assert_array_equal(
        opened.search(queries, 5).position, built[kind].search(queries, 5).position
    )
    if Path("/proc/self/maps").exists():
        assert (str(file) in Path("/proc/self/maps").read_text()) == mapped
    if mapped:
        with refused("memory-mapped", "mapped=False"):
            opened.add(queries)
    else:
        opened.add(queries)
        assert opened.count == 1400
    save_searcher(opened, tmp_path / "again.faiss")  # the copy no longer needs the first file
    file.unlink()
    assert load_searcher(tmp_path / "again.faiss").count == opened.count


@pytest.mark.parametrize("kind", ["exact", *FAISS_KINDS])
def test_added_rows_are_found(kind: str, gallery: np.ndarray) -> None:
    if kind != "exact":
        pytest.importorskip("faiss")
    searcher = build_searcher(kind, gallery)
    new = clustered(60, seed=3)
    searcher.add(new)
    assert searcher.count == 1260
    position = searcher.search(new, 5).position
    assert np.mean((position == 1200 + np.arange(60)[:, None]).any(axis=1)) >= 0.95


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_search_for_all_rows(kind: str, queries: np.ndarray) -> None:
    """With more than the graph's breadth or the probed lists hold, all of the index is searched."""
    pytest.importorskip("faiss")
    result = build_searcher(kind, clustered(3000, seed=4, dimension=8)).search(
        queries[:2, :8], 3000
    )
    assert [sorted(row) for row in result.position.tolist()] == [list(range(3000))] * 2


def test_ivfpq_of_a_prime_dimension(queries: np.ndarray) -> None:
    pytest.importorskip("faiss")
    searcher = build_searcher("ivfpq", clustered(300, seed=5, dimension=31))
    assert searcher.search(clustered(20, seed=6, dimension=31), 3).position.shape == (20, 3)


def test_refused_arguments(
    built: dict[str, Any], gallery: np.ndarray, queries: np.ndarray, tmp_path: Path, refused: Any
) -> None:
    with refused("kind=lsh", "exact, flat, hnsw, ivfpq"):
        build_searcher("lsh", gallery)
    with refused("gallery is empty"):
        build_searcher("flat", gallery[:0])
    with refused("kind=hnsw", "device=cuda:0", "kind=exact"):
        build_searcher("hnsw", gallery, device=torch.device("cuda:0"))
    with refused("ivfpq", "256", "255", "kind=flat"):
        build_searcher("ivfpq", gallery[:255])
    broken = gallery.copy()
    broken[7, 0] = np.inf
    for kind in FAISS_KINDS:
        with refused("Row 7", "infinite"):
            build_searcher(kind, broken)
        with refused("queries have 8 dimensions", "has 32"):
            built[kind].search(queries[:, :8], 1)
        with refused("new rows have 8 dimensions"):
            built[kind].add(queries[:, :8])
        with refused("k=1201", "1 to 1200"):
            built[kind].search(queries, 1201)
        with refused("Row 7 of the queries"):
            built[kind].search(broken, 1)
    with refused("new rows have 8 dimensions"):
        ExactSearcher(gallery).add(queries[:, :8])
    with refused("kind=exact", "flat, hnsw, ivfpq"):
        save_searcher(ExactSearcher(gallery), tmp_path / "x.faiss")
    with refused("no index", "missing.faiss"):
        load_searcher(tmp_path / "missing.faiss")
    for content in (b"", b"not an index of anything"):
        (tmp_path / "bad.faiss").write_bytes(content)
        with refused("bad.faiss", "not a FAISS index"):
            load_searcher(tmp_path / "bad.faiss")


def test_an_index_of_another_kind_is_refused(tmp_path: Path, refused: Any) -> None:
    faiss = pytest.importorskip("faiss")
    faiss.write_index(faiss.IndexLSH(8, 16), str(tmp_path / "lsh.faiss"))
    with refused("IndexLSH", "IndexFlatIP"):
        load_searcher(tmp_path / "lsh.faiss", mapped=False)


def test_faiss_is_not_installed(
    gallery: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with refused("needs FAISS, which is not installed", 'pip install "product-cls[retrieval]"'):
        build_searcher("flat", gallery)
    with refused("needs FAISS, which is not installed"):
        load_searcher(tmp_path / "x.faiss")
    assert build_searcher("exact", gallery).search(gallery[:2], 1).position.tolist() == [[0], [1]]
