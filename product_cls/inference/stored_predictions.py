"""What a predictions file must hold; anything else is refused instead of believed."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from product_cls.core.errors import UserError
from product_cls.tasks import build_task

NEEDED = ("id", "scores", "scores_no_tta", "classes", "task", "target")
SCORES = ("scores", "scores_no_tta", "class_scores", "class_scores_no_tta")
EMBEDDINGS = ("embedding", "embedding_no_tta")
FLOATS = SCORES + EMBEDDINGS
TEXTS = ("id", "classes", "task", "asked")
LEAST_TARGET = -2  # negative values mark labels that are unknown, or unknown to training


def check_array(name: str, array: np.ndarray) -> None:
    """Check one array of a predictions file by itself.

    Raises:
        ValueError: no such array belongs to a predictions file, its type is wrong, or it holds
            scores that are not finite.
    """
    kinds = {"target": "iu", "view": "iufU"} | dict.fromkeys(TEXTS, "U")
    kinds |= dict.fromkeys(FLOATS, "f")
    if name not in kinds:
        raise ValueError(f"it holds '{name}'; allowed: {', '.join(kinds)}")
    if array.dtype.kind not in kinds[name]:
        raise ValueError(f"'{name}' is of type {array.dtype}")
    if name in FLOATS:
        if array.dtype != np.float32:
            raise ValueError(f"'{name}' is of type {array.dtype}; allowed: float32")
        check_finite(name, array)


def check_finite(name: str, scores: np.ndarray) -> None:
    """Check that scores or embeddings, float ``[N, ...]``, are numbers.

    Raises:
        ValueError: a value is NaN or infinite; the message has the number of such rows.
    """
    # A sum is finite unless a value is not, or unless it overflows; it needs no memory.
    if np.isfinite(scores.sum(dtype=np.float64)):
        return
    rows = ~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim)))
    if rows.any():
        raise ValueError(
            f"'{name}' is not finite (NaN or infinite) for {rows.sum():,} of {len(scores):,} "
            f"pictures, the first in row {rows.argmax()}"
        )


def read_task(text: np.ndarray) -> dict[str, Any]:
    """``Task.spec()`` of predictions from its JSON, a text array without dimensions.

    Raises:
        ValueError: the JSON cannot be read, or describes no task.
        UserError: a task that this process does not know.
    """
    try:
        spec = json.loads(str(text))
        name = spec["name"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise ValueError("'task' is no JSON that describes a task") from None
    try:
        build_task(spec)
    except UserError:
        raise
    except Exception:  # a task takes any arguments, and each raises its own errors
        raise ValueError(f"'task' has settings that task={name} cannot have") from None
    return dict(spec)


def check_scores(arrays: Mapping[str, Any], pictures: int, classes: int) -> None:
    """Check that all scores are of shape ``[pictures, classes]``.

    Args:
        arrays: name -> array, or anything else that has a ``shape``; None for absent ones.

    Raises:
        ValueError: they are not; the message names the array.
    """
    for name in SCORES:
        shape = getattr(arrays.get(name), "shape", None)
        if shape is not None and shape != (pictures, classes):
            raise ValueError(
                f"'{name}' is of shape {list(shape)} for {pictures:,} pictures and "
                f"{classes:,} classes"
            )


def check_agreement(arrays: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Check that the arrays of a file describe the same pictures, classes and task.

    Args:
        arrays: name -> array, or anything else that has a ``shape``; None for absent ones.
        spec: of the task.

    Raises:
        ValueError: they disagree; the message names the array.
    """
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ValueError(f"it holds no '{missing[0]}'")
    ids, classes, target = arrays["id"], arrays["classes"], arrays["target"]
    for name, array in (("id", ids), ("classes", classes)):
        if array.ndim != 1 or not len(array):
            raise ValueError(
                f"'{name}' is of shape {list(array.shape)}; allowed: one or more names"
            )
        if len(np.unique(array)) < len(array):
            raise ValueError(f"'{name}' holds a name twice")
    asked = arrays.get("asked")
    if asked is not None and (asked.ndim != 1 or not np.isin(ids, asked).all()):
        raise ValueError("'asked' lacks pictures that were answered")
    pictures = len(ids)
    check_scores(arrays, pictures, len(classes))
    dimensions_of = {"target": (1, 2), "view": (1,)} | dict.fromkeys(EMBEDDINGS, (2,))
    for name, dimensions in dimensions_of.items():
        array = arrays.get(name)
        if array is not None and (array.ndim not in dimensions or len(array) != pictures):
            raise ValueError(f"'{name}' is of shape {list(array.shape)} for {pictures:,} pictures")
    task = build_task(spec)
    if list(task.classes) != classes.tolist():
        raise ValueError("'classes' and 'task' name different classes")
    known = np.unique(target, axis=0)
    try:
        if known.min() < LEAST_TARGET or known.max() >= len(classes):
            raise IndexError
        if target.ndim > 1:
            task.evaluate(np.zeros((len(known), len(classes)), np.float32), known)
            task.target_name(known.max(axis=0))
    except Exception:  # the task indexes its labels by the targets, each in its own way
        raise ValueError(f"'target' does not fit task={task.name}") from None
