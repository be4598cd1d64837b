"""Read the thresholds of a multi-label task from a file, and set them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from product_cls.core.documents import read_json
from product_cls.core.errors import UserError, reason
from product_cls.core.names import nfc
from product_cls.tasks.base import Task
from product_cls.tasks.multi_label import MultiLabel


def read_thresholds(file: Path) -> dict[str, float]:
    """Thresholds by label from a ``thresholds.json`` that the ensemble command wrote.

    Raises:
        UserError: the file is missing or of another kind.
    """
    try:
        thresholds = read_json(file, dict)["thresholds"]
        return {nfc(str(name)): float(value) for name, value in thresholds.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not a thresholds file: {reason(error)}.") from None


def with_thresholds(task: Task, thresholds: Mapping[str, float]) -> Task:
    """A copy of the task with other thresholds.

    Args:
        task: from a checkpoint.
        thresholds: label -> threshold in [0, 1], for each of its labels.

    Raises:
        UserError: the task is not multi-label, or the thresholds are for other labels.
    """
    if not task.multi_label:
        raise UserError(f"Thresholds need a multi_label model; the checkpoint's is {task.name}.")
    if set(thresholds) != set(task.classes):
        first = sorted(set(thresholds) ^ set(task.classes))[0]
        raise UserError(
            f"The thresholds are for other labels than the checkpoint: only one of them has "
            f"'{first}'."
        )
    values = np.array([thresholds[name] for name in task.classes])
    return MultiLabel(list(task.classes), thresholds=values.tolist())
