"""What a run takes from others: initial weights (``start=``) and answers (``teacher=``)."""

from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from product_cls.core.errors import UserError
from product_cls.data.taught import Taught
from product_cls.ensemble.teacher import read_teacher
from product_cls.inference.predictor import Predictor
from product_cls.losses.single_label import SumLoss
from product_cls.models.backbone import Weights
from product_cls.models.network import Network
from product_cls.tasks import Task


def check_teacher(config: DictConfig, task: Task) -> None:
    """Refuse a teacher whose answers the task cannot learn, and a loss without its teacher.

    Args:
        config: the run's config.
        task: fitted.

    Raises:
        UserError: naming the keys.
    """
    if config.teacher is not None and not task.teachable:
        raise UserError(
            f"teacher={config.teacher} does not go with task={task.name}, which learns from labels "
            f"only; allowed: task=single_label."
        )
    loss = getattr(task, "class_loss", None)
    if config.teacher is None and getattr(loss, "needs_teacher", False):
        raise UserError(
            "loss=distill learns a teacher's answers; set teacher=multirun/NAME, whose runs vote."
        )
    parts = loss.parts.values() if isinstance(loss, SumLoss) else ()
    if any(getattr(part, "needs_teacher", False) for part in parts):
        raise UserError(
            "loss=distill cannot be a part of a sum; put the sum inside it, as loss.loss."
        )


def answers(
    config: DictConfig, task: Task, samples: pd.DataFrame, held_out: np.ndarray
) -> Taught | None:
    """The answers of ``teacher=`` for a run's pictures; None without a teacher.

    Args:
        config: the run's config.
        task: fitted.
        samples: the sample table, without pictures that the store lacks.
        held_out: ids of the validation pictures, which are never learned.

    Raises:
        UserError: the teacher is refused.
    """
    if config.teacher is None:
        return None
    targets = read_teacher(Path(str(config.teacher)))
    return targets.taught(samples, list(task.classes), held_out, f"teacher={config.teacher}")


def load_start(network: Network, task: Task, checkpoint: Path) -> None:
    """Give a network the weights, head included, of a run's checkpoint.

    Args:
        network: changed in place.
        task: fitted.
        checkpoint: of a run with the same backbone, pooling, task and classes.

    Raises:
        UserError: the file is no checkpoint, or of another network or other classes.
    """
    where = f"start={checkpoint}"
    try:
        earlier = Predictor.load(checkpoint)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if earlier.task.name != task.name:
        raise UserError(f"{where} is of task={earlier.task.name}, and this run of {task.name}.")
    if list(earlier.task.classes) != list(task.classes):
        raise UserError(
            f"{where} knows {len(earlier.task.classes)} classes, and this run has other "
            f"{len(task.classes)}; model.weights=FILE takes the backbone alone."
        )
    here, there = network.spec, earlier.network.spec
    for key in ("backbone", "pooling"):
        if here[key] != there[key]:
            raise UserError(f"{where} has model.{key}={there[key]}, and this run {here[key]}.")
    weights = earlier.network.state_dict()
    own = network.state_dict()
    if odd := [
        name for name in own if name not in weights or own[name].shape != weights[name].shape
    ]:
        raise UserError(f"{where} does not fit this run's network, first in {odd[0]}.")
    network.load_state_dict(weights)
    network.weights = Weights(where, str(checkpoint))
    network.normalise(there["mean"], there["std"])
