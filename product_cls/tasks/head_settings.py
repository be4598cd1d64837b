"""One of several labels of a picture: what its head is set to, and its labels as names."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from product_cls.core.errors import UserError
from product_cls.losses.class_weights import check_smoothing
from product_cls.losses.multi_label import takes_one_label

KEYS = ("column", "classes", "loss", "weight", "class_weights")


TAKEN = ("image", "filename", "prediction")  # columns of the files in which each head has one


@dataclass
class Head:
    """One label of a picture.

    Attributes:
        name: of the head.
        column: of the sample table.
        classes: names, in the order of the scores; empty until they are learnt.
        loss: takes logits ``[B, C]`` and targets ``[B]``.
        weight: of the loss in the sum, above 0.
        class_weights: a kind of ``losses.class_weights``; None for equal ones.
    """

    name: str
    column: str
    classes: list[str]
    loss: nn.Module
    weight: float
    class_weights: str | None

    @property
    def key(self) -> str:
        """For messages."""
        return f"task.heads.{self.name}"


def read_head(name: str, entry: Any, default: nn.Module) -> Head:
    """A head from its settings.

    Raises:
        UserError: a name, key or value that cannot be.
    """
    key = f"task.heads.{name}"
    if not name.replace("-", "_").isidentifier() or name in TAKEN:
        raise UserError(
            f"task.heads names a head '{name}'; allowed: letters, digits, _ and -, first a letter, "
            f"and none of {', '.join(TAKEN)}."
        )
    if not isinstance(entry, Mapping) or (unknown := [k for k in entry if k not in KEYS]):
        shown = entry if not isinstance(entry, Mapping) else ", ".join(map(str, unknown))
        raise UserError(f"{key} has '{shown}'; allowed: {', '.join(KEYS)}.")
    classes: Any = entry.get("classes")
    listed = isinstance(classes, Sequence) and not isinstance(classes, str)
    names = [str(name) for name in classes] if listed else []
    if classes is not None and (len(names) < 2 or len(set(names)) < len(names)):
        raise UserError(f"{key}.classes={classes}; allowed: two or more, each once, or null.")
    weight = entry.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < np.inf:
        raise UserError(f"{key}.weight={weight}; it must be above 0 ({key}=null leaves it out).")
    given = entry.get("loss")
    # Each head has its own: weights of classes are the head's.
    loss = deepcopy(default) if given is None else given
    if getattr(loss, "on_embeddings", False):
        raise UserError(
            f"The loss of {key} is over embeddings, which task=retrieval has; allowed: "
            f"losses over logits."
        )
    if not takes_one_label(loss):
        raise UserError(
            f"The loss of {key}, {type(loss).__name__}, is for labels that are each there or not, "
            f"which task=multi_label has; allowed: losses over classes."
        )
    check_smoothing(loss)
    return Head(
        name=name,
        column=str(entry.get("column") or name),
        classes=names,
        loss=loss,
        weight=float(weight),
        class_weights=entry.get("class_weights"),
    )


def label_names(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Labels as text, None where missing; whole numbers without the point that pandas gives all of
    a column where some are missing, in a table and in a CSV that it writes."""
    names = [None if pd.isna(value) else str(value) for value in column]
    if all(name is None or re.fullmatch(r"-?\d+\.0", name) for name in names):
        names = [name and name.removesuffix(".0") for name in names]
    return pd.Series(names, column.index, object)
