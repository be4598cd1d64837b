"""Predictions as tables."""

import pandas as pd

from product_cls.inference.predictions import Predictions


def predictions_frame(predictions: Predictions) -> pd.DataFrame:
    """A row for each picture.

    Returns:
        Columns ``id``, ``target`` (the label, or the labels joined as the task writes them; None if
        it is unknown or not a class of training), ``view`` if known, and a column of float32 scores
        in [0, 1] for each class.
    """
    table = pd.DataFrame({"id": predictions.id, "target": _target_names(predictions)})
    if predictions.view is not None:
        table["view"] = predictions.view
    scores = pd.DataFrame(predictions.scores, columns=list(map(str, predictions.classes)))
    return pd.concat([table, scores], axis=1)


def _target_names(predictions: Predictions) -> list[str | None]:
    """Labels by name, ``[N]``."""
    target, classes = predictions.target, predictions.classes
    if target.ndim == 1:
        return [str(classes[k]) if k >= 0 else None for k in target]
    task = predictions.make_task()
    return [None if (row < 0).all() else task.target_name(row) for row in target]
