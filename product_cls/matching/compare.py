"""Pictures compared with candidates, whose local features are kept on disk."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from product_cls.core.arrays import load_arrays, save_arrays
from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError
from product_cls.core.files import whole_file
from product_cls.core.progress import progress_bar
from product_cls.data.pictures import load_picture
from product_cls.matching.sift import CommonPoints, LocalFeatures, common_points, local_features

VERSION = "1"  # of the features; those of other versions are computed again
POINT = np.dtype([("place", "<u2", 2), ("descriptor", "u1", 128)])
WHOLE = 65535.0  # a share of the longer side, 0 to 1, is kept as 0 to this
TABLE, POINTS = "pictures.npz", "points.bin"
HELD = 4096  # pictures whose features stay in memory

T = TypeVar("T")
U = TypeVar("U")


class FeatureFolder:
    """Local features of some picture files, kept in a folder and read from there.

    Those of pictures that have not changed are taken over; the others are computed. A picture that
    cannot be read has none. A damaged folder is replaced.

    Args:
        paths: M picture files.
        folder: where the features are kept.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, paths: Sequence[Path], folder: Path) -> None:
        with _threads() as mapped:
            keys = np.array(list(mapped(_key, paths)), np.str_)
            old = _Kept.open(folder)
            if old is None or not np.array_equal(old.keys, keys):
                row_of = {} if old is None else {key: row for row, key in enumerate(old.keys)}

                def points(pair: tuple[Path, str]) -> np.ndarray:
                    path, key = pair
                    if old is not None and (row := row_of.get(key)) is not None:
                        return old.points(row)
                    return _packed(features_of(path))

                _write(folder, keys, mapped(points, zip(paths, keys.tolist(), strict=True)))
                old = _Kept.open(folder)
        if old is None:
            raise UserError(f"{folder} cannot be read back after writing; check the disk.")
        self._kept = old
        self._features = lru_cache(maxsize=HELD)(self._read)

    def __getitem__(self, row: int) -> LocalFeatures:
        return self._features(row)

    def _read(self, row: int) -> LocalFeatures:
        points = self._kept.points(row)
        places = points["place"].astype(np.float32) / np.float32(WHOLE)
        return LocalFeatures(places, np.array(points["descriptor"]))


class _Kept:
    """Features on disk: a table of pictures, and the points of all of them in one file."""

    def __init__(self, keys: np.ndarray, counts: np.ndarray, points: np.ndarray) -> None:
        self.keys, self._points = keys, points
        self._starts = np.concatenate([[0], counts.cumsum()])

    def points(self, row: int) -> np.ndarray:
        return self._points[self._starts[row] : self._starts[row + 1]]

    @classmethod
    def open(cls, folder: Path) -> "_Kept | None":
        """None if there are none, or if they are damaged."""
        file = folder / POINTS

        def build(arrays: dict[str, Any]) -> "_Kept":
            keys, counts = arrays["key"], arrays["count"]
            size = int(counts.sum()) * POINT.itemsize
            if len(keys) != len(counts) or (counts < 0).any() or file.stat().st_size != size:
                raise ValueError("its parts differ in length")
            # An empty file cannot be mapped.
            points = np.memmap(file, POINT, "r") if size else np.empty(0, POINT)
            return cls(keys, counts, points)

        try:
            return load_arrays(folder / TABLE, build, "table of local features")
        except UserError:
            return None


def _write(folder: Path, keys: np.ndarray, points: Iterable[np.ndarray]) -> None:
    # Both files are complete before either takes its place, and without its table the other counts
    # for nothing.
    counts = []
    with whole_file(folder / POINTS) as partial:
        with partial.open("wb") as stream:
            for part in points:
                stream.write(part.tobytes())
                counts.append(len(part))
        (folder / TABLE).unlink(missing_ok=True)
    save_arrays(folder / TABLE, {"key": keys, "count": np.array(counts, np.int64)})


def _key(path: Path) -> str:
    """Changes with the file, without reading it."""
    try:
        state = path.stat()
        parts = [VERSION, str(path), str(state.st_size), str(state.st_mtime_ns)]
    except OSError:
        parts = [VERSION, str(path)]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def _packed(features: LocalFeatures) -> np.ndarray:
    packed = np.empty(len(features.points), POINT)
    packed["place"] = np.rint(features.points.clip(0, 1) * WHOLE)
    packed["descriptor"] = features.descriptors
    return packed


def evenly(count: int, most: int) -> np.ndarray:
    """Positions of at most ``most`` of ``count`` pictures, spread evenly, ascending int64."""
    size = min(most, count)
    return np.unique(np.linspace(0, count - 1, size).astype(np.int64))


def features_of(path: Path) -> LocalFeatures:
    """Local features of a picture file; none if it cannot be read."""
    try:
        return local_features(load_picture(path))
    except OSError:
        return local_features(np.zeros((1, 1, 3), np.uint8))


def compare(
    paths: Sequence[Path], gallery: FeatureFolder, candidates: np.ndarray
) -> Iterator[list[CommonPoints]]:
    """Points that each picture has in common with its candidates.

    Args:
        paths: N picture files; one that cannot be read has nothing in common with any.
        gallery: features of M pictures.
        candidates: int64 ``[N, k]``, rows of the gallery; negative for none.

    Returns:
        N lists of k, one after the other.
    """

    def one(number: int) -> list[CommonPoints]:
        query = features_of(paths[number])
        return [
            common_points(query, gallery[int(row)]) if row >= 0 else CommonPoints.none()
            for row in candidates[number]
        ]

    with _threads() as mapped:
        yield from mapped(one, range(len(paths)))


def count_points(
    paths: Sequence[Path], gallery: FeatureFolder, candidates: np.ndarray
) -> np.ndarray:
    """Number of points that each picture has in common with its candidates.

    Args:
        paths, gallery, candidates: as for ``compare``.

    Returns:
        int64 ``[N, k]``.
    """
    bar = progress_bar(compare(paths, gallery, candidates), "compare", len(paths), leave=False)
    counts = [[len(points) for points in row] for row in bar]
    return np.array(counts, np.int64).reshape(candidates.shape)


def most_points(points: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Most points in common with a candidate of each class, int64 ``[N, K]``.

    Args:
        points: int ``[N, k]``, in common with each candidate.
        labels: int64 ``[N, k]``, classes of the candidates; negative for none.
        classes: int64 ``[N, K]``, classes to report.
    """
    same = labels[:, None, :] == classes[:, :, None]
    most: np.ndarray = np.where(same, points[:, None, :], 0).max(axis=2, initial=0)
    return most


@contextmanager
def _threads() -> Iterator[Callable[[Callable[[T], U], Iterable[T]], Iterator[U]]]:
    """A ``map`` in threads: OpenCV and NumPy release Python's lock."""
    cv2.setNumThreads(0)  # OpenCV's own threads would compete with these
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield pool.map
