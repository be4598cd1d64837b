"""Builds objects from config nodes, and names the key of each bad argument."""

from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from product_cls.config.border import key_of, keys_for_arguments
from product_cls.core.arguments import argument_of, rename_argument
from product_cls.core.errors import UserError, reason

FULL_KEY = "\nfull_key: "  # how Hydra's message ends if the node that failed lies in a config


def build(node: Any, **extra: Any) -> Any:
    """Hydra's ``instantiate``, with errors that name keys.

    A ``ValueError`` about an argument (``gamma=-1; allowed: ...``) becomes a ``UserError`` about
    the key that sets it (``loss.gamma=-1; allowed: ...``), also for nested nodes. A ``UserError``
    passes unchanged.

    Args:
        node: a config node with a ``_target_``.
        extra: further arguments, which override those of the node.

    Raises:
        UserError: the target, or one of a nested node, refuses its arguments.
    """
    try:
        # Plain lists and dicts, because optimisers write their arguments into checkpoints.
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError) and argument_of(str(cause)):
            raise UserError(_about_key(str(cause), node, str(error))) from cause
        if isinstance(cause, TypeError | ValueError | MisconfigurationException):
            raise UserError(f"{node._target_} refuses its arguments: {reason(cause)}.") from cause
        raise


def _about_key(sentence: str, node: DictConfig, message: str) -> str:
    """A sentence about an argument of ``node``, or of a node inside it, with the argument's key.

    Args:
        message: message of Hydra's exception, which names the node that failed.
    """
    outer = str(node._get_full_key(None))
    _, _, failed = message.rpartition(FULL_KEY)
    # Nested nodes have keys below the outer one's, before interpolations are followed.
    inner = failed.removeprefix(outer).strip(".") if FULL_KEY in message else ""
    return rename_argument(
        sentence,
        lambda name: key_of(node, f"{inner}.{name}" if inner else name),
        known=OmegaConf.select(node, inner) if inner else node,
    )


def try_out(optimizer: Any, scheduler: Any) -> Optimizer:
    """Call both once, so that they refuse wrong arguments before training starts.

    Args:
        optimizer: parameters -> an optimiser.
        scheduler: an optimiser and the number of steps -> a scheduler.

    Returns:
        The run's optimiser over a single weight.

    Raises:
        UserError: one of them refuses an argument.
    """
    trial: Optimizer = _try("optimizer", optimizer, [torch.nn.Parameter(torch.zeros(1))])
    _try("scheduler", scheduler, trial, 10)
    return trial


def _try(group: str, partial: Any, *arguments: Any) -> Any:
    # The scheduler refuses rates that torch's optimisers accept.
    with keys_for_arguments(group, lr="optimizer.lr"):
        try:
            return partial(*arguments)
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError) or argument_of(str(error)):
                raise
            raise UserError(f"{group} refuses its arguments: {reason(error)}.") from None


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The config resolved into plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
