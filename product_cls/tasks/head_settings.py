"""Settings and class weights of one head of a multi-head task, and labels as text."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from product_cls.core.arguments import renamed_arguments
from product_cls.core.names import nfc
from product_cls.losses.class_weights import (
    check_smoothing,
    check_weight_count,
    class_weights,
    set_class_weights,
)
from product_cls.losses.multi_label import takes_one_label

SETTINGS = ("column", "classes", "loss", "weight", "class_weights")
# Names of other columns in files that have a column for each head.
TAKEN_NAMES = ("image", "filename", "prediction")


@dataclass
class Head:
    """One head, which predicts one label of a picture.

    Attributes:
        name: the head's name.
        column: of the sample table.
        classes: names, in the order of the scores; empty before they are learnt.
        loss: takes logits ``[B, C]`` and targets ``[B]``.
        weight: of the loss in the sum, above 0.
        class_weights: a kind of ``losses.class_weights``; None for equal weights.
    """

    name: str
    column: str
    classes: list[str]
    loss: nn.Module
    weight: float
    class_weights: str | None

    @property
    def argument(self) -> str:
        """The argument of ``MultiHead`` that holds the settings of this head."""
        return f"heads.{self.name}"


def read_head(name: str, settings: Any, default_loss: nn.Module) -> Head:
    """Build a head from its settings.

    Args:
        name: the head's name.
        settings: a mapping with keys of ``SETTINGS``, all optional.
        default_loss: copied if the settings have no loss.

    Raises:
        ValueError: a wrong name, key or value; about the argument ``heads`` of ``MultiHead``.
    """
    name = nfc(name)
    if not name.replace("-", "_").isidentifier() or name in TAKEN_NAMES:
        raise ValueError(
            f"heads={name}; allowed as the name of a head: letters, digits, _ and -, not beginning "
            f"with a digit, and none of {', '.join(TAKEN_NAMES)}."
        )
    argument = f"heads.{name}"
    if not isinstance(settings, Mapping):
        raise ValueError(f"{argument}={settings}; allowed: settings {', '.join(SETTINGS)}.")
    if unknown := [key for key in settings if key not in SETTINGS]:
        raise ValueError(
            f"{argument}.{unknown[0]}={settings[unknown[0]]} is not a setting of a head; allowed: "
            f"{', '.join(SETTINGS)}."
        )
    classes: Any = settings.get("classes")
    is_list = isinstance(classes, Sequence) and not isinstance(classes, str)
    names = [nfc(str(name)) for name in classes] if is_list else []
    if classes is not None and (len(names) < 2 or len(set(names)) < len(names)):
        raise ValueError(
            f"{argument}.classes={classes}; allowed: two or more names, each once, or null."
        )
    weight = settings.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < np.inf:
        raise ValueError(
            f"{argument}.weight={weight}; allowed: above 0 (to leave the head out, set it to null)."
        )
    loss = settings.get("loss")
    if loss is None:
        loss = deepcopy(default_loss)  # each head has its own, because class weights differ
    else:
        with renamed_arguments(argument):
            check_head_loss(loss)
    return Head(
        name=name,
        column=nfc(str(settings.get("column") or name)),
        classes=names,
        loss=loss,
        weight=float(weight),
        class_weights=settings.get("class_weights"),
    )


def check_head_loss(loss: nn.Module) -> None:
    """Refuse a loss that a softmax head cannot use.

    Raises:
        ValueError: about the argument ``loss``.
    """
    kind = type(loss).__name__
    if getattr(loss, "on_embeddings", False):
        raise ValueError(
            f"loss={kind} is over embeddings, which only the retrieval task has; allowed: losses "
            f"over logits."
        )
    if not takes_one_label(loss):
        raise ValueError(
            f"loss={kind} is for several labels per picture, which the multi_label task has; "
            f"allowed: losses over classes."
        )
    with renamed_arguments("loss"):
        check_smoothing(loss)


def set_head_weights(head: Head, labels: "pd.Series[str]") -> None:
    """Set the class weights of a head's loss, if its settings ask for them.

    Args:
        head: with classes; its loss is changed.
        labels: the known labels of the training pictures.

    Raises:
        ValueError: the loss has weights for another number of classes or does not take the weights,
            or a class has no training picture.
    """
    with renamed_arguments(f"{head.argument}.loss"):
        check_weight_count(head.loss, len(head.classes))
    if head.class_weights is None:
        return
    argument = f"{head.argument}.class_weights"
    counts = labels.value_counts().reindex(head.classes, fill_value=0)
    if (counts == 0).any():
        raise ValueError(
            f"{argument}={head.class_weights}: the class '{counts.idxmin()}' has no training "
            f"picture; set it to null."
        )
    with renamed_arguments(f"{argument}={head.class_weights}", kind=argument):
        set_class_weights(head.loss, class_weights(counts.to_numpy(), head.class_weights))


def label_names(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Labels as text, None if missing.

    In a column with missing values pandas turns whole numbers into floats, also when it reads a CSV
    file; their ``.0`` is removed.
    """
    names = [None if pd.isna(value) else nfc(str(value)) for value in column]
    if all(name is None or re.fullmatch(r"-?\d+\.0", name) for name in names):
        names = [name and name.removesuffix(".0") for name in names]
    return pd.Series(names, column.index, object)
