"""How far confidence is from accuracy."""

import numpy as np

BINS = 15  # of equal width, as most papers have it


def calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599).

    The pictures are sorted into bins of confidence. The error is the mean distance between accuracy
    and mean confidence of a bin, weighted by its pictures.

    Args:
        confidence: float ``[N]`` in [0, 1].
        correct: ``[N]``, 0 or 1.
        bins: number of bins.

    Returns:
        In [0, 1]; NaN without pictures.
    """
    if not len(confidence):
        return float("nan")
    place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, np.asarray(confidence) - np.asarray(correct), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))
