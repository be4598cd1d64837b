"""From config values to objects and settings, with a sentence for each bad value."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from product_cls.config.batch import world_size
from product_cls.config.values import on_gpu, trainer_precision
from product_cls.core.errors import UserError

MISSING: Any = object()


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
    if trainer_precision(trainer).startswith("16"):
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


def check_config(config: DictConfig) -> None:
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
    devices, alone = trainer["devices"], world_size(trainer) == 1
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
