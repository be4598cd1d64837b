"""How well neighbours are of the query's class: recall@k and mAP@R."""

from collections.abc import Sequence

import numpy as np
import torch

from product_cls.neighbours.exact import search_exact


def retrieval_measures(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    recall: Sequence[int] = (1, 5),
    device: torch.device | None = None,
) -> dict[str, float]:
    """Measures over the queries whose class the gallery has.

    ``recall@k`` is the share of queries with a picture of their class among the k nearest.
    ``mAP@R`` (Musgrave et al. 2020, arXiv 2003.08505): with R pictures of the query's class in the
    gallery, the mean over the R nearest of the precision up to each that is right, else 0.

    Args:
        queries: float32 ``[N, D]``, of length 1.
        query_labels: int64 ``[N]``.
        gallery: float32 ``[M, D]``, of length 1, without the queries.
        gallery_labels: int64 ``[M]``.

    Returns:
        ``{"recall@1": ..., "recall@5": ..., "mAP@R": ...}``, in [0, 1]; empty where no query's
        class is in the gallery.
    """
    known = (query_labels >= 0) & np.isin(query_labels, gallery_labels)
    if not known.any():
        return {}
    labels = query_labels[known]
    values, counts = np.unique(gallery_labels, return_counts=True)
    wanted = counts[np.searchsorted(values, labels)]
    k = min(max(*recall, int(wanted.max())), len(gallery))
    found = search_exact(queries[known], gallery, k, device=device)
    right = gallery_labels[found.position] == labels[:, None]
    rank = np.arange(1, k + 1)
    precision = np.where(right & (rank <= wanted[:, None]), right.cumsum(axis=1) / rank, 0.0)
    result = {f"recall@{k}": float(right[:, :k].any(axis=1).mean()) for k in recall}
    result["mAP@R"] = float((precision.sum(axis=1) / wanted).mean())
    return result
