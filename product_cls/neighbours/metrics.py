"""Retrieval metrics: recall@k and mAP@R."""

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
    """Metrics over the queries whose class is in the gallery.

    ``recall@k`` is the share of queries with a picture of their class among the k nearest.
    ``mAP@R`` (Musgrave et al. 2020, arXiv 2003.08505) is a mean over queries. For a query with R
    pictures of its class in the gallery, the value is a mean over the R nearest pictures: the
    precision up to the picture if it is of the class, otherwise 0.

    Args:
        queries: float32 ``[N, D]``, L2-normalised.
        query_labels: int64 ``[N]``; negative if unknown.
        gallery: float32 ``[M, D]``, L2-normalised, without the queries.
        gallery_labels: int64 ``[M]``.
        recall: values of k.
        device: device of the search; None for the CPU.

    Returns:
        ``{"recall@1": ..., "recall@5": ..., "mAP@R": ...}``, in [0, 1]; empty if no query's class
        is in the gallery.
    """
    answerable = (query_labels >= 0) & np.isin(query_labels, gallery_labels)
    if not answerable.any():
        return {}
    labels = query_labels[answerable]
    values, counts = np.unique(gallery_labels, return_counts=True)
    class_sizes = counts[np.searchsorted(values, labels)]
    k = min(max(*recall, int(class_sizes.max())), len(gallery))
    neighbours = search_exact(queries[answerable], gallery, k, device=device)
    correct = gallery_labels[neighbours.position] == labels[:, None]
    rank = np.arange(1, k + 1)
    precision = np.where(
        correct & (rank <= class_sizes[:, None]), correct.cumsum(axis=1) / rank, 0.0
    )
    result = {f"recall@{k}": float(correct[:, :k].any(axis=1).mean()) for k in recall}
    result["mAP@R"] = float((precision.sum(axis=1) / class_sizes).mean())
    return result
