"""Builds objects from config nodes, and names the key of each bad argument."""

import re
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from product_cls.config.argument_types import wrong_type
from product_cls.config.border import key_of, keys_for_arguments
from product_cls.core.arguments import argument_of, rename_argument
from product_cls.core.errors import UserError, reason

LOCATING = re.compile(r"(?:Error locating target|Expected a callable target, got) '(.*?)'[,. ]")
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
        cause, inner = error.__cause__, _failed_node(node, str(error))
        failed = OmegaConf.select(node, inner) if inner else node
        if isinstance(cause, UserError):
            raise cause from None
        if LOCATING.match(str(error)):
            key = key_of(node, f"{inner}._target_".lstrip("."))
            raise UserError(f"{key}={failed._target_}: {_not_found(error, failed)}.") from error
        if isinstance(cause, ValueError) and argument_of(str(cause)):
            raise UserError(_about_key(str(cause), node, inner)) from cause
        if isinstance(cause, TypeError | ValueError | AttributeError):
            given = {key: value for key, value in failed.items() if inner or key not in extra}
            if sentence := wrong_type(get_object(failed._target_), given):
                raise UserError(_about_key(sentence, node, inner)) from cause
        if isinstance(cause, TypeError | ValueError | MisconfigurationException | ImportError):
            raise UserError(
                f"{_name_of(node, inner)}{failed._target_} refuses its arguments: {reason(cause)}."
            ) from cause
        raise


def _failed_node(node: DictConfig, message: str) -> str:
    """Key of the node that failed, relative to ``node``; "" for ``node`` itself.

    Args:
        message: of Hydra's exception, which ends with the full key.
    """
    if FULL_KEY not in message:
        return ""
    outer = str(node._get_full_key(None))
    # Nested nodes have keys below the outer one's, before interpolations are followed.
    return message.rpartition(FULL_KEY)[2].removeprefix(outer).strip(".")


def _name_of(node: DictConfig, inner: str) -> str:
    """``KEY: `` of a node, or of a node inside it; "" for one without a config around it."""
    key = key_of(node, inner) if inner else str(node._get_full_key(None))
    return f"{key}: " if key else ""


def _about_key(sentence: str, node: DictConfig, inner: str) -> str:
    """A sentence about an argument of the node at ``inner``, with the argument's key."""
    return rename_argument(
        sentence,
        lambda name: key_of(node, f"{inner}.{name}" if inner else name),
        known=OmegaConf.select(node, inner) if inner else node,
    )


def _not_found(error: InstantiationException, failed: DictConfig) -> str:
    """Why Hydra could not import the target of a node, as the end of a sentence."""
    target = str(failed._target_)
    importing = error.__cause__ and error.__cause__.__cause__
    missing = importing.name if isinstance(importing, ModuleNotFoundError) else None
    if missing is not None and f"{target}.".startswith(f"{missing}."):
        module, _, name = missing.rpartition(".")
        if not module:
            return (
                f"there is no module '{name}'; install it, or add its folder to PYTHONPATH "
                "if it is a file of your own"
            )
        return f"the module {module} has no '{name}'"
    if importing is not None:
        return f"it cannot be imported ({type(importing).__name__}: {reason(importing)})"
    return "it must be the import path of a class or function, such as my_module.my_function"


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
            if sentence := wrong_type(partial.func, partial.keywords):
                raise ValueError(sentence) from error
            raise UserError(f"{group} refuses its arguments: {reason(error)}.") from None


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The config resolved into plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
