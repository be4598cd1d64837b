"""Checks of the config, before anything is read or built.

Of a value that library code takes as an argument, only the type is checked here: the library checks
its range, and ``border.py`` names the key. All other values are checked only here.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from product_cls.config.allowed import FLAG, Allowed, number, only, whole
from product_cls.config.batch import world_size
from product_cls.config.border import lacking, missing_keys_named
from product_cls.config.names import check_name
from product_cls.config.sentences import said_plainly
from product_cls.config.trainer_options import TRAINER, check_trainer
from product_cls.config.values import image_size, on_gpu, parse_fold, trainer_precision
from product_cls.config.words import TEXT, fits
from product_cls.core.arguments import as_typed
from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError
from product_cls.core.files import check_place
from product_cls.core.names import shown
from product_cls.core.view_names import check_view_names

ABSENT: Any = object()


# What numpy's and scikit-learn's generators take.
SEED = Allowed(lambda x: type(x) is int and 0 <= x < 2**32, "a whole number, 0 to 4294967295")

CHECKS: dict[str, Allowed] = {
    "seed": SEED,
    "exclude": Allowed(OmegaConf.is_list, "a list, exclude=[rotate,cutmix]"),
    "tta": Allowed(OmegaConf.is_list, "a list, tta=[identity,hflip]"),
    "keep": only("best", "last", "average"),
    "augment_engine": only("exact", "fast"),
    "augment_ramp": Allowed(lambda x: type(x) in (int, float) and 0 <= x <= 1, "0 to 1"),
    "adapt": only("batchnorm", "infomax", None),
    "adapt_share": Allowed(lambda x: type(x) in (int, float) and 0 <= x <= 1, "0 to 1"),
    "adapt_views": only("unseen", "all"),
    "rerun": FLAG,
    "oom_retries": whole(0),
    "folds.n_splits": whole(),
    "folds.seed": SEED,
    "folds.min_per_class": whole(null=True, unit=" of pictures"),
    "data.batch_size": whole(1),  # its range, too: pictures a step and searches depend on it
    "data.per_class": whole(null=True),
    "data.limit": whole(null=True, unit=" of pictures"),
    "data.stream.window": whole(1, unit=" of pictures"),
    "data.stream.cache_gb": number(0, "gigabytes"),
    "model.drop_rate": number(),
    "model.drop_path_rate": number(),
    "model.channels_last": FLAG,
    "model.compile": FLAG,
    "model.joined": Allowed(OmegaConf.is_list, "a list of networks, model.joined=[lite1,dinov2_s]"),
    "mix.mixup": number(),
    "mix.cutmix": number(),
    "mix.p": number(),
    "optimizer.lr": number(),
    # Its range, too, because some of torch's optimisers take negative values.
    "optimizer.weight_decay": Allowed(lambda x: type(x) in (int, float) and x >= 0, "0 or more"),
    "scheduler.end_lr": number(),
    "scheduler.warmup": number(),
    "callbacks.early_stopping.patience": whole(0),
    **{f"trainer.{name}": allowed for name, allowed in TRAINER.items()},
}


# Parts of the config that every run has, and that are mappings.
GROUPS = (
    *("trainer", "data", "task", "model", "augment", "mix", "loss", "optimizer", "scheduler"),
    *("logger", "callbacks", "folds", "finetune", "scale_lr", "paths"),
)
# Text that may be null, and text that may be empty.
NULLABLE = (
    *("start", "teacher", "adapt", "monitor", "callbacks.*.monitor", "epochs_from"),
    *("folds.file", "task.heads.*.*", "data.corrections"),
    *("data.root", "data.file", "data.test", "data.*_column", "data.*_file"),
    *("data.suffix", "data.encoding", "data.separator", "data.subset", "data.splits", "logger.*.*"),
)
EMPTY = ("data.suffix", "data.separator", "logger.*.*")


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
    check_settings(config)
    with missing_keys_named(), said_plainly():
        _check_devices(config.trainer)


def check_settings(config: DictConfig) -> None:
    """The checks of ``check_config`` that need no torch, whose import takes seconds.

    Raises:
        UserError: see there.
    """
    with missing_keys_named(), said_plainly():
        _check_groups(config)
        _check_values(config)


def _check_groups(config: DictConfig) -> None:
    """Refuse a config whose parts are missing or no mappings, and settings without a value."""
    # Unresolved, because a key that interpolates a missing key is not for the user to set.
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    for name in GROUPS:
        if not isinstance(raw.get(name, {}), dict):
            raise UserError(
                f"{name}={shown(as_typed(raw[name]))}; allowed: settings, such as those of an "
                f"option of the group (product-cls train --help lists them)."
            )
    groups = {name: node for name, node in raw.items() if isinstance(node, dict)}
    if absent := [name for name in GROUPS if name not in raw]:
        raise lacking(absent[0])
    missing = [f"{g}.{key}=..." for g, node in groups.items() for key in node if node[key] == "???"]
    if missing:
        raise UserError(f"Missing: {', '.join(missing)} on the command line.")
    check_name(config)
    for key, value in _nodes(raw):
        if any(fits(key, pattern) for pattern in TEXT):
            _check_text(key, value)


def _nodes(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, those of mappings among them."""
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _nodes(value, f"{prefix}{key}.")


def _check_text(key: str, value: Any) -> None:
    """Refuse a value that is no text, as a file of settings may hold it."""
    empty = value == "" and not any(fits(key, pattern) for pattern in EMPTY)
    null = value is None and not any(fits(key, pattern) for pattern in NULLABLE)
    if empty or null or not isinstance(value, str | None):
        also = ", or null" if any(fits(key, pattern) for pattern in NULLABLE) else ""
        raise UserError(
            f"{key}={shown(as_typed(value))}; allowed: text{also} (in a file, a number or true "
            f"that is text needs quotes)."
        )
    if isinstance(value, str) and value.startswith("~") and key.startswith(("data.", "model.")):
        try:
            Path(value).expanduser()
        except RuntimeError:
            raise UserError(f"{key}={shown(value)}: there is no such user's folder.") from None
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{key}={shown(value)}; allowed: text without control characters.")


def _check_new_place(key: str, place: Path) -> None:
    """Refuse a place that does not exist and cannot be made: waiting for its lock would not end."""
    try:
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        try:
            check_place(place.parent)
        except UserError as error:
            raise UserError(f"{key}={shown(place)}: {error}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{key}={shown(place, 60)}: {why}.") from None


def _check_values(config: DictConfig) -> None:
    for key in ("folds.file", "paths.cache"):
        if place := OmegaConf.select(config, key):
            _check_new_place(key, Path(place))
    parse_fold(config.fold, config.folds.strategy)
    image_size(config.data.get("size"))
    for key, allowed in CHECKS.items():
        value = OmegaConf.select(config, key)
        present = OmegaConf.select(config, key, default=ABSENT) is not ABSENT
        if present and not allowed.holds(value):
            raise UserError(f"{key}={shown(as_typed(value))}; allowed: {allowed.words}.")
    for key, default in (("adapt_share", 1), ("adapt_views", "unseen")):
        if config.adapt is None and config[key] != default:
            raise UserError(
                f"{key}={config[key]} has no effect without adapt=batchnorm or infomax."
            )
    check_view_names(config.tta)  # a misspelt view should not fail only after training
    if config.epochs_from is not None and config.fold != "all":
        raise UserError(
            f"epochs_from={config.epochs_from} is for a final model, fold=all; with "
            f"fold={config.fold}, validation selects the best epoch."
        )
    check_trainer(config.trainer)
    if config.oom_retries and (nodes := config.trainer.get("num_nodes", 1)) > 1:
        raise UserError(
            f"oom_retries={config.oom_retries} works on one machine only, and "
            f"trainer.num_nodes={nodes}; set it to 0."
        )
    nodes = {str(name): node for name, node in config.callbacks.items()}
    if wrong := [name for name, node in nodes.items() if not OmegaConf.is_dict(node)]:
        raise UserError(
            f"callbacks.{wrong[0]}={shown(as_typed(nodes[wrong[0]]))}; allowed: settings with a "
            f"_target_, the class of the callback (~callbacks.NAME leaves one out)."
        )
    monitoring = [name for name, node in nodes.items() if "monitor" in node]
    stopping = [name for name in monitoring if "patience" in nodes[name]]
    if config.keep != "best" and stopping:
        raise UserError(
            f"keep={config.keep} keeps the end of the training, and callbacks={stopping[0]} stops "
            f"several epochs after the best; allowed with it: keep=best."
        )
    if config.fold == "all" and monitoring:
        raise UserError(
            f"fold=all has no validation for callbacks={monitoring[0]} to watch; use a fold, or "
            f"callbacks=none."
        )


def _check_devices(trainer: Mapping[str, Any]) -> None:
    import torch  # only here: see check_settings

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
    if not on_gpu(trainer) and devices > (cores := max(2, usable_cores())):
        raise UserError(
            f"trainer.devices={devices} starts as many processes on the CPU, but {cores} cores can "
            f"be used here; lower it."
        )
    if trainer.get("sync_batchnorm") and (one_rank or not on_gpu(trainer)):
        raise UserError(
            "trainer.sync_batchnorm=true joins the batch norms of several GPUs, and this run does "
            "not use several; set it to false."
        )
