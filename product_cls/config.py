"""From config values to objects and settings, with a sentence for each bad value."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from product_cls.cores import usable_cores
from product_cls.errors import UserError, reason
from product_cls.steps import ranks

MISSING: Any = object()


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


def check_sam(trainer: Mapping[str, Any]) -> None:
    """Refuse what a step of two gradients does not go with.

    Raises:
        UserError: batches are accumulated, or losses are scaled for float16.
    """
    if (batches := trainer["accumulate_grad_batches"]) != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches={batches} does not go with SAM, whose step takes two "
            f"gradients of one batch; allowed: 1, with a larger data.batch_size."
        )
    if precision(trainer).startswith("16"):
        raise UserError(
            f"trainer.precision={trainer['precision']} does not go with SAM, whose first gradient "
            f"is taken without float16's care for overflow; allowed: auto, bf16-mixed, 32-true."
        )


def _is_number(low: float, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int | float) and not isinstance(x, bool) and low <= x <= high


def _is_whole(low: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= low


def _is_flag(x: Any) -> bool:
    return isinstance(x, bool)


def _is_list(x: Any) -> bool:
    return OmegaConf.is_list(x)


# Key -> (what holds of its value, in words). What is not here is checked where it is used.
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (_is_whole(0), "a whole number, 0 or more"),
    "exclude": (_is_list, "a list, exclude=[rotate,cutmix]"),
    "tta": (_is_list, "a list, tta=[identity,hflip]"),
    "rerun": (_is_flag, "true or false"),
    "folds.n_splits": (_is_whole(2), "a whole number, 2 or more"),
    "folds.seed": (_is_whole(0), "a whole number, 0 or more"),
    "data.batch_size": (_is_whole(1), "1 or more"),
    "data.per_class": (lambda x: x is None or _is_whole(2)(x), "2 or more, or null"),
    "data.limit": (lambda x: x is None or _is_whole(1)(x), "a whole number of pictures, or null"),
    "data.stream.window": (_is_whole(1), "a whole number of pictures, 1 or more"),
    "data.stream.cache_gb": (_is_number(1e-9), "gigabytes, above 0"),
    "model.drop_rate": (_is_number(0, 1), "0 to 1"),
    "model.drop_path_rate": (_is_number(0, 1), "0 to 1"),
    "model.channels_last": (_is_flag, "true or false"),
    "model.compile": (_is_flag, "true or false"),
    "mix.mixup": (_is_number(0), "0 or more"),
    "mix.cutmix": (_is_number(0), "0 or more"),
    "mix.p": (_is_number(0, 1), "0 to 1"),
    "optimizer.weight_decay": (_is_number(0), "0 or more"),
    "trainer.max_epochs": (_is_whole(1), "1 or more"),
    "trainer.devices": (_is_whole(1), "a whole number, 1 or more"),
    "trainer.num_nodes": (_is_whole(1), "a whole number, 1 or more"),
    "trainer.strategy": (lambda x: x == "ddp", "ddp, which several devices always are"),
    "trainer.sync_batchnorm": (_is_flag, "true or false"),
    "oom_retries": (_is_whole(0), "0 or more"),
    # Each epoch ends with validation, by which the best checkpoint is chosen.
    "trainer.check_val_every_n_epoch": (lambda x: x == 1, "1"),
    "trainer.limit_val_batches": (_is_number(1e-9), "above 0"),
    "trainer.limit_train_batches": (_is_number(1e-9), "above 0"),
    "trainer.fast_dev_run": (lambda x: not x, "false (trainer=debug runs two steps)"),
}


def check(config: DictConfig) -> None:
    """Refuse missing and impossible values before anything is read or built.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    # Unresolved: what repeats a missing key by interpolation is not what a user sets.
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    groups = {name: node for name, node in raw.items() if isinstance(node, dict)}
    missing = [f"{g}.{key}=..." for g, node in groups.items() for key in node if node[key] == "???"]
    if missing:
        raise UserError(f"Missing: {', '.join(missing)} on the command line.")
    for key, (holds, allowed) in CHECKS.items():
        value = OmegaConf.select(config, key)
        if OmegaConf.select(config, key, default=MISSING) is not MISSING and not holds(value):
            raise UserError(f"{key}={value}; allowed: {allowed}.")
    if config.epochs_from is not None and config.fold != "all":
        raise UserError(
            f"epochs_from={config.epochs_from} is for a final model, fold=all; fold={config.fold} "
            f"has validation to choose its best epoch by."
        )
    _check_devices(config.trainer)
    if config.oom_retries and (nodes := config.trainer.get("num_nodes", 1)) > 1:
        raise UserError(
            f"oom_retries={config.oom_retries} is for the devices of one machine, and "
            f"trainer.num_nodes={nodes}; set it to 0."
        )
    watched = [name for name, node in config.callbacks.items() if "monitor" in node]
    if config.fold == "all" and watched:
        raise UserError(
            f"fold=all has no validation for callbacks={watched[0]} to watch; use a fold, or "
            f"callbacks=none."
        )


def _check_devices(trainer: Mapping[str, Any]) -> None:
    devices, alone = trainer["devices"], ranks(trainer) == 1
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UserError(
            f"trainer.accelerator={trainer['accelerator']}, but no GPU can be used here; allowed: "
            f"auto, cpu."
        )
    if on_gpu(trainer) and devices > (count := torch.cuda.device_count()):
        raise UserError(
            f"trainer.devices={devices}, but {count} GPUs can be used here; lower it, or see what "
            f"CUDA_VISIBLE_DEVICES says."
        )
    if trainer.get("sync_batchnorm") and (alone or not on_gpu(trainer)):
        raise UserError(
            "trainer.sync_batchnorm=true joins the batch norms of several GPUs, which are not "
            "there; set it to false."
        )


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
    # Emulated bf16, which older GPUs have, is slower than float32.
    bf16 = on_gpu(trainer) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if bf16 else "32-true"


def num_workers(value: int | str, gpu: bool, ranks: int = 1) -> int:
    """Loader processes; ``auto`` is none on a CPU, where they would only compete with training.

    Args:
        ranks: of this machine, which share its cores.

    Raises:
        UserError: neither ``auto`` nor a number.
    """
    if value == "auto":
        return min(8, max(1, usable_cores() // ranks)) if gpu else 0
    if not isinstance(value, int) or value < 0:
        raise UserError(f"data.num_workers={value}; allowed: auto, 0 or more.")
    return value


def plain(config: DictConfig) -> dict[str, Any]:
    """The config resolved into plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
