"""From config nodes to objects, with a sentence for each bad argument."""

from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from product_cls.core.errors import UserError, reason


def build(node: Any, **extra: Any) -> Any:
    """Hydra's ``instantiate``; a ``UserError`` from inside comes out as it was raised.

    Raises:
        UserError: raised by the target, or an argument that the target does not take.
    """
    try:
        # Plain lists and dicts: what optimisers keep of their arguments ends up in checkpoints.
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | MisconfigurationException):
            raise UserError(f"{node._target_} refuses its arguments: {reason(cause)}.") from cause
        raise


def try_out(optimizer: Any, scheduler: Any) -> Optimizer:
    """Call both once, so that a wrong argument is said before training sets out.

    Returns:
        An optimiser of a single weight: its kind and defaults are those of the run's.

    Raises:
        UserError: an argument that one of them does not take.
    """
    try:
        trial: Optimizer = optimizer([torch.nn.Parameter(torch.zeros(1))])
        scheduler(trial, 10)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer or scheduler refuses its arguments: {reason(error)}.") from None
    return trial


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The config resolved into plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
