"""Pairs of pictures that show the same shot: equal pixels, or one that was saved, resized, cropped
or brightened again."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from product_cls.audit.facts import PictureFacts
from product_cls.core.cpu_count import usable_cores
from product_cls.data.pictures import load_picture

# Chosen on rendered products (128 pixels, whose next neighbours are the same product on a turned
# table, and others of its design) and on GroceryStoreDataset, with copies that lose up to 4 % at
# each edge, are scaled to 60 to 100 %, brightened by 10 % and saved as JPEG of quality 40 to 85.
# benchmarks/audit.py measures what is found.
AGREE = 0.96  # least correlation of two aligned pictures
DIFFER = 0.3  # most difference of a place, in standard deviations of the picture: another label
PLACE = 4.0  # standard deviation of a place in pixels
ALIKE = 0.85  # correlation of two small copies, from which on a pair is aligned
NEIGHBOURS = 3  # most alike pictures of each that are aligned
SIDE = 128  # at which pictures are aligned, in pixels
BLUR = 2.0  # standard deviation in pixels, so that another JPEG quality does not count
MOST_SKEW = 0.12  # of the alignment: more than a crop or another size
ROWS = 256  # of the comparison of small copies that are in memory at once
SEVERAL = 2048  # pairs that are aligned before progress is told


def exact_copies(facts: PictureFacts) -> list[list[int]]:
    """Groups of two or more pictures with equal pixels, by position."""
    groups: dict[str, list[int]] = defaultdict(list)
    for k in np.flatnonzero(facts.readable):
        groups[facts.content[k]].append(int(k))
    return [group for group in groups.values() if len(group) > 1]


def near_copies(
    paths: Sequence[str],
    facts: PictureFacts,
    *,
    max_pixels: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[int, int, float]]:
    """Pairs of pictures that agree after alignment, without those of equal pixels.

    Args:
        paths: of the N pictures.
        facts: about them.
        max_pixels: as for ``examine``.
        progress: is told how many pairs of how many have been aligned.

    Returns:
        ``(first, second, correlation)`` by position, first < second.
    """
    pairs = alike_pairs(facts)
    agreed = np.zeros(len(pairs))

    def compare(k: int) -> None:
        try:
            one, two = (load_picture(paths[n], max_pixels=max_pixels) for n in pairs[k])
        except OSError:  # it has gone since
            return
        agreed[k] = agreement(one, two)

    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(pairs), SEVERAL):
            some = range(start, min(start + SEVERAL, len(pairs)))
            list(pool.map(compare, some))
            if progress is not None:
                progress(some.stop, len(pairs))
    kept = np.flatnonzero(agreed >= AGREE)
    return [(*pairs[k], float(agreed[k])) for k in kept]


def alike_pairs(facts: PictureFacts) -> list[tuple[int, int]]:
    """Pairs whose small copies correlate, at most ``NEIGHBOURS`` a picture, first < second."""
    # Of equal pixels, one stands for all.
    first = {facts.content[k]: int(k) for k in np.flatnonzero(facts.readable)[::-1]}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    if len(rows) < 2:
        return []
    flat = facts.small[rows].reshape(len(rows), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    pairs: set[tuple[int, int]] = set()
    most = min(NEIGHBOURS, len(rows) - 1)
    for start in range(0, len(rows), ROWS):
        block = flat[start : start + ROWS] @ flat.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -1
        best = np.argpartition(-block, most - 1, axis=1)[:, :most]
        for k, others in enumerate(best):
            for other in others[block[k, others] >= ALIKE]:
                low, high = sorted((int(rows[start + k]), int(rows[other])))
                pairs.add((low, high))
    return sorted(pairs)


def agreement(one: np.ndarray, two: np.ndarray) -> float:
    """Correlation of two pictures after aligning the second by a small affine transform.

    Args:
        one, two: RGB uint8 ``[H, W, 3]`` of any size.

    Returns:
        In [-1, 1]; 0 if no small transform aligns them, or if a place differs by more than
        brightness and contrast, such as a label on the same bottle.
    """
    a, b = (
        cv2.GaussianBlur(cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), BLUR)
        for x in (one, two)
    )
    warp = _alignment(a, b)
    if warp is None:
        return 0.0
    flags = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(b, warp, (SIDE, SIDE), flags=flags | cv2.INTER_LINEAR)
    frame = cv2.warpAffine(np.ones((SIDE, SIDE), np.uint8), warp, (SIDE, SIDE), flags=flags)
    inside = cv2.erode(frame, np.ones((5, 5), np.uint8)) > 0  # without the blended border
    if inside.mean() < 0.5:
        return 0.0
    x, y = (picture - picture[inside].mean() for picture in (a.astype(float), moved.astype(float)))
    shared, own, other = ((p[inside] * q[inside]).sum() for p, q in ((x, y), (x, x), (y, y)))
    rest = x - shared / max(other, 1e-9) * y
    rest[~inside] = 0
    places = np.abs(cv2.GaussianBlur(rest, (0, 0), PLACE)).max(axis=2)[inside]
    if np.quantile(places, 0.99) > DIFFER * x[inside].std():
        return 0.0
    return float(shared / max(np.sqrt(own * other), 1e-9))


def _alignment(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The affine transform ``[2, 3]`` from the first picture's places to the second's; None if it
    is not found, or more than a crop or another size."""
    warp = np.eye(2, 3, dtype=np.float32)
    grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (a, b)]
    try:
        for shrink, steps, filtered in ((2, 60, 3), (1, 30, 1)):  # coarse, then fine
            small = [cv2.resize(x, (SIDE // shrink, SIDE // shrink)) for x in grey]
            ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-5)
            warp[:, 2] /= shrink
            # The stubs of OpenCV know no filter size, which smooths the gradients.
            agreed, found = cv2.findTransformECC(  # type: ignore[call-overload]
                *small, warp, cv2.MOTION_AFFINE, ends, None, filtered
            )
            if agreed < ALIKE:  # as most pairs, which need no fine alignment
                return None
            warp = np.asarray(found, dtype=np.float32)
            warp[:, 2] *= shrink
    except cv2.error:  # the pictures do not align, or one has a single grey value
        return None
    return None if np.abs(warp[:, :2] - np.eye(2)).max() > MOST_SKEW else warp
