"""Fingerprints of runs: digests of the data and of the settings that change results."""

from collections.abc import Mapping
from typing import Any

from product_cls.core.files import digest

# Keys of the resolved config that change where a run writes or what it shows, not its results.
UNFINGERPRINTED = (
    "name",
    "logger",
    "paths",
    "rerun",
    "epochs_from",  # its result is in trainer.max_epochs
    "scale_lr",  # its result is in optimizer.lr
    "oom_retries",
    # The digests of samples and folds identify the data better than its location does.
    "data.name",
    "data.root",
    "data.file",
    "data.test",
    *(f"data.{key}" for key in ("encoding", "separator", "on_empty")),
    "data.samples.root",
    "data.samples.file",
    "data.samples.test",
    "data.samples.cache",
    *(f"data.samples.{key}" for key in ("encoding", "separator", "on_empty")),
    "data.stream.cache_gb",
    "folds.file",
    "folds.min_per_class",
    "data.fold_column",
    "data.samples.fold_column",
    "data.num_workers",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)


# Classes that were moved: current name -> first name, which keeps the fingerprints of older runs.
FIRST_NAMES = {
    "product_cls.training.callbacks.WarmEma": "product_cls.callbacks.WarmEma",
    "product_cls.losses.AsymmetricLoss": "product_cls.losses_multi_label.AsymmetricLoss",
    "product_cls.losses.FocalBCELoss": "product_cls.losses_multi_label.FocalBCELoss",
}

# Settings that came later: key -> the value with which runs are as they were before.
ADDED: dict[str, Any] = {"monitor": None, "metrics": {}}


def fingerprint(config: Mapping[str, Any], *data: str) -> str:
    """Digest of a run's settings and data; runs with equal digests have equal results.

    Args:
        config: resolved, plain containers.
        data: digests of samples and folds.
    """
    return digest([fingerprinted(config), *data])


def fingerprinted(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The part of a config that changes results, nested as in the config.

    Args:
        config: resolved, plain containers.
        prefix: dotted key of ``config`` inside the whole config, with a dot at the end.
    """
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if prefix + key in UNFINGERPRINTED:
            continue
        if prefix + key in ADDED and value == ADDED[prefix + key]:
            continue
        if isinstance(value, Mapping):
            value = fingerprinted(value, f"{prefix}{key}.")
        elif key == "_target_":
            value = FIRST_NAMES.get(value, value)
        kept[key] = value
    return kept
