"""Checks of the config, before anything is read or built.

Of a value that library code takes as an argument, only the type is checked here: the library checks
its range, and ``border.py`` names the key. All other values are checked only here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf

from product_cls.config.batch import world_size
from product_cls.config.values import on_gpu, trainer_precision
from product_cls.core.errors import UserError

ABSENT: Any = object()


class Allowed(NamedTuple):
    """The values that are allowed: as a test, and in words."""

    holds: Callable[[Any], bool]
    words: str


def _whole(low: int | None = None, *, null: bool = False, unit: str = "") -> Allowed:
    """Whole numbers of at least ``low``, if it is set; with ``null``, also null."""
    words = f"a whole number{unit}"
    words += "" if low is None else f", {low} or more"

    def holds(x: Any) -> bool:
        return (null and x is None) or (type(x) is int and (low is None or x >= low))

    return Allowed(holds, words + (", or null" if null else ""))


def _number(above: float | None = None, words: str = "a number") -> Allowed:
    """Numbers, above ``above`` if it is set."""
    words += "" if above is None else f" above {above:g}"
    return Allowed(lambda x: type(x) in (int, float) and (above is None or x > above), words)


# What numpy's and scikit-learn's generators take.
SEED = Allowed(lambda x: type(x) is int and 0 <= x < 2**32, "a whole number, 0 to 4294967295")
FLAG = Allowed(lambda x: isinstance(x, bool), "true or false")

CHECKS: dict[str, Allowed] = {
    "seed": SEED,
    "exclude": Allowed(OmegaConf.is_list, "a list, exclude=[rotate,cutmix]"),
    "tta": Allowed(OmegaConf.is_list, "a list, tta=[identity,hflip]"),
    "rerun": FLAG,
    "oom_retries": _whole(0),
    "folds.n_splits": _whole(),
    "folds.seed": SEED,
    "folds.min_per_class": _whole(null=True, unit=" of pictures"),
    "data.batch_size": _whole(1),  # its range, too: pictures a step and searches depend on it
    "data.per_class": _whole(null=True),
    "data.limit": _whole(null=True, unit=" of pictures"),
    "data.stream.window": _whole(1, unit=" of pictures"),
    "data.stream.cache_gb": _number(0, "gigabytes"),
    "model.drop_rate": _number(),
    "model.drop_path_rate": _number(),
    "model.channels_last": FLAG,
    "model.compile": FLAG,
    "mix.mixup": _number(),
    "mix.cutmix": _number(),
    "mix.p": _number(),
    "optimizer.lr": _number(),
    # Its range, too, because some of torch's optimisers take negative values.
    "optimizer.weight_decay": Allowed(lambda x: type(x) in (int, float) and x >= 0, "0 or more"),
    "scheduler.end_lr": _number(),
    "scheduler.warmup": _number(),
    "callbacks.early_stopping.patience": _whole(0),
    "trainer.max_epochs": _whole(1),
    "trainer.accumulate_grad_batches": _whole(1),
    "trainer.gradient_clip_val": Allowed(
        lambda x: x is None or (type(x) in (int, float) and x >= 0), "0 or more, or null"
    ),
    "trainer.devices": _whole(1),
    "trainer.num_nodes": _whole(1),
    "trainer.strategy": Allowed(lambda x: x == "ddp", "ddp, the only one for several devices"),
    "trainer.sync_batchnorm": FLAG,
    # Each epoch ends with validation, which selects the best checkpoint.
    "trainer.check_val_every_n_epoch": Allowed(lambda x: x == 1, "1"),
    "trainer.limit_val_batches": _number(0),
    "trainer.limit_train_batches": _number(0),
    "trainer.fast_dev_run": Allowed(lambda x: not x, "false (trainer=debug runs two steps)"),
}


def check_sam(trainer: Mapping[str, Any]) -> None:
    """Refuse trainer settings that SAM's step, which takes two gradients, does not support.

    Raises:
        UserError: batches are accumulated, or the precision scales losses for float16.
    """
    if (batches := trainer["accumulate_grad_batches"]) != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches={batches} does not go with SAM, whose step takes two "
            f"gradients of one batch; allowed: 1, with a larger data.batch_size."
        )
    if trainer_precision(trainer).startswith("16"):
        raise UserError(
            f"trainer.precision={trainer['precision']} does not go with SAM, whose first gradient "
            f"could overflow in float16; allowed: auto, bf16-mixed, 32-true."
        )


def check_config(config: DictConfig) -> None:
    """Refuse missing and impossible values before anything is read or built.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    # Unresolved, because a key that interpolates a missing key is not for the user to set.
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    groups = {name: node for name, node in raw.items() if isinstance(node, dict)}
    missing = [f"{g}.{key}=..." for g, node in groups.items() for key in node if node[key] == "???"]
    if missing:
        raise UserError(f"Missing: {', '.join(missing)} on the command line.")
    for key, allowed in CHECKS.items():
        value = OmegaConf.select(config, key)
        present = OmegaConf.select(config, key, default=ABSENT) is not ABSENT
        if present and not allowed.holds(value):
            raise UserError(f"{key}={value}; allowed: {allowed.words}.")
    if config.epochs_from is not None and config.fold != "all":
        raise UserError(
            f"epochs_from={config.epochs_from} is for a final model, fold=all; with "
            f"fold={config.fold}, validation selects the best epoch."
        )
    _check_devices(config.trainer)
    if config.oom_retries and (nodes := config.trainer.get("num_nodes", 1)) > 1:
        raise UserError(
            f"oom_retries={config.oom_retries} works on one machine only, and "
            f"trainer.num_nodes={nodes}; set it to 0."
        )
    monitoring = [name for name, node in config.callbacks.items() if "monitor" in node]
    if config.fold == "all" and monitoring:
        raise UserError(
            f"fold=all has no validation for callbacks={monitoring[0]} to watch; use a fold, or "
            f"callbacks=none."
        )


def _check_devices(trainer: Mapping[str, Any]) -> None:
    devices, one_rank = trainer["devices"], world_size(trainer) == 1
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UserError(
            f"trainer.accelerator={trainer['accelerator']}, but this machine has no usable GPU; "
            f"allowed: auto, cpu."
        )
    if on_gpu(trainer) and devices > (count := torch.cuda.device_count()):
        raise UserError(
            f"trainer.devices={devices}, but {count} GPUs can be used here; lower it, or check "
            f"CUDA_VISIBLE_DEVICES."
        )
    if trainer.get("sync_batchnorm") and (one_rank or not on_gpu(trainer)):
        raise UserError(
            "trainer.sync_batchnorm=true joins the batch norms of several GPUs, and this run does "
            "not use several; set it to false."
        )
