"""Bring the predictions of several runs into the same order of pictures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.inference.predictions import Predictions
from product_cls.tasks.decoder import Decoder

SHOWN = 3  # pictures named in a message


def align(parts: Sequence[tuple[str, Predictions]]) -> list[Predictions]:
    """Reorder the predictions of all runs to the order of the first run.

    Args:
        parts: (name of the run, its predictions for the split), one or more.

    Returns:
        The predictions; row k of each is the same picture.

    Raises:
        UserError: the ids, classes, kinds of labels or labels of two runs differ; the message names
            both.
    """
    (first_name, first), *rest = parts
    aligned = [first]
    for name, other in rest:
        check_alike(first_name, first, name, other)
        position = pd.Series(np.arange(len(other.id)), index=other.id)
        if len(other.id) != len(first.id) or not np.isin(first.id, other.id).all():
            raise UserError(
                f"Runs '{first_name}' and '{name}' cannot be blended: they predict different "
                f"pictures ({len(first.id)} and {len(other.id)} ids, "
                f"{np.isin(first.id, other.id).sum()} in both)."
            )
        same = np.array_equal(other.id, first.id)  # the usual case, which needs no copy
        aligned.append(other if same else other.rows(position[first.id].to_numpy()))
        check_labels(
            (first_name, name), first.id, (first.target, aligned[-1].target), first.make_task()
        )
    return aligned


def check_labels(
    names: tuple[str, str],
    ids: np.ndarray,
    targets: tuple[np.ndarray, np.ndarray],
    task: Decoder,
) -> None:
    """Refuse two runs that know different labels of the same pictures.

    Their results are measured against different truths, so they can neither be blended nor
    compared.

    Args:
        names: of the runs.
        ids: of the pictures, text ``[N]``.
        targets: of each run, ``[N, ...]`` in the order of ``ids``.
        task: names the targets.

    Raises:
        UserError: with the first pictures and both labels of each.
    """
    differs = targets[0] != targets[1]
    rows = np.flatnonzero(differs.any(axis=tuple(range(1, differs.ndim))))
    if not len(rows):
        return
    examples = [
        f"'{shown(ids[row])}' ({_named(task, targets[0][row])}, then "
        f"{_named(task, targets[1][row])})"
        for row in rows[:SHOWN]
    ]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    pictures = "1 picture" if len(rows) == 1 else f"{len(rows)} pictures"
    raise UserError(
        f"Runs '{names[0]}' and '{names[1]}' cannot be blended or compared: they know different "
        f"labels of {pictures}: {', '.join(examples)}{more}; repeat their commands, which trains "
        f"anew with today's labels."
    )


def check_alike(first_name: str, first: Predictions, name: str, other: Predictions) -> None:
    """Refuse two runs whose scores have different meanings.

    Raises:
        UserError: their classes, or their kinds of labels, differ.
    """
    both = f"Runs '{first_name}' and '{name}' cannot be blended:"
    if other.target.shape[1:] != first.target.shape[1:]:
        kinds = f"task={first.task['name']}, the other of task={other.task['name']}"
        raise UserError(f"{both} one is of {kinds}, with other labels.")
    if set(other.classes) != set(first.classes):
        raise UserError(
            f"{both} their classes differ ({len(first.classes)} and {len(other.classes)}; only one "
            f"has '{np.setxor1d(first.classes, other.classes)[0]}')."
        )
    if not np.array_equal(other.classes, first.classes):
        raise UserError(f"{both} their {len(first.classes)} classes are not in the same order.")


def _named(task: Decoder, target: np.ndarray) -> str:
    return shown(task.target_name(target)) or "none"
