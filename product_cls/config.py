"""From config values to objects and settings, with a sentence for each bad value."""

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from product_cls.errors import UserError


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
            raise UserError(f"{node._target_} refuses its arguments: {one_line(cause)}") from cause
        raise


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, ending in a full stop."""
    return " ".join(str(error).split()).rstrip(".") + "."


def try_out(optimizer: Any, scheduler: Any) -> None:
    """Call both once, so that a wrong argument is said before training sets out.

    Raises:
        UserError: an argument that one of them does not take.
    """
    try:
        scheduler(optimizer([torch.nn.Parameter(torch.zeros(1))]), 10)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(
            f"optimizer or scheduler refuses its arguments: {one_line(error)}"
        ) from None


def image_size(value: Any) -> tuple[int, int]:
    """``data.size`` as height and width: one number stands for both.

    Raises:
        UserError: it is neither a whole number nor two.
    """
    pair = [value, value] if isinstance(value, int) else value
    if OmegaConf.is_config(pair):
        pair = OmegaConf.to_container(pair)
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, int) for x in pair)):
        raise UserError(f"data.size={value}; allowed: a number of pixels or [height, width].")
    return pair[0], pair[1]


def check_fold(value: Any) -> int | str:
    """``fold`` as a number or ``all``.

    Raises:
        UserError: it is something else.
    """
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise UserError(f"fold={value}; allowed: the number of a fold, or all.")


def on_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether Lightning's ``accelerator`` comes out as a CUDA device."""
    return trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def precision(trainer: Mapping[str, Any]) -> str:
    """Lightning's precision for ``trainer.precision``, of which ``auto`` is ours."""
    if trainer["precision"] != "auto":
        return str(trainer["precision"])
    return "bf16-mixed" if on_gpu(trainer) and torch.cuda.is_bf16_supported() else "32-true"


def num_workers(value: int | str, gpu: bool) -> int:
    """Loader processes; ``auto`` is none on a CPU, where they would only compete with training.

    Raises:
        UserError: neither ``auto`` nor a number.
    """
    if value == "auto":
        return min(8, os.cpu_count() or 1) if gpu else 0
    if not isinstance(value, int) or value < 0:
        raise UserError(f"data.num_workers={value}; allowed: auto, 0 or more.")
    return value


def plain(config: DictConfig) -> dict[str, Any]:
    """The config resolved into plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
