"""Predictions as a table for readers; the file of arrays beside it has all scores."""

import numpy as np
import pandas as pd

from product_cls.data.fold_names import view_name
from product_cls.inference.predictions import Predictions

TOP = 3  # classes with their scores; a column for each of 1,000 classes would help nobody


def predictions_table(predictions: Predictions) -> pd.DataFrame:
    """One row a picture, in the order of the file.

    Returns:
        Columns ``id``; ``view``, if views are known; ``label``, the true one, empty if unknown;
        ``prediction``; then as in ``predict``: ``label_1``, ``score_1`` to ``label_3``, ``score_3``
        for one label a picture, a column of scores for each label of several.
    """
    task = predictions.make_task()
    table: dict[str, object] = {"id": predictions.id}
    if predictions.view is not None:
        # An unknown view is NaN, the only value that differs from itself.
        table["view"] = [view_name(v) if v == v else "" for v in predictions.view]
    targets, which = np.unique(predictions.target, axis=0, return_inverse=True)
    known = [bool((target >= 0).any()) for target in targets]
    named = [task.target_name(t) if k else "" for t, k in zip(targets, known, strict=True)]
    table["label"] = np.array(named, dtype=object)[which.reshape(-1)]
    scores = predictions.scores
    table["prediction"] = task.decide(scores)
    columns, _ = task.describe(scores, TOP)
    return pd.DataFrame({**columns, **table})[[*table, *(c for c in columns if c not in table)]]
