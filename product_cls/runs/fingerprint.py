"""What makes two runs the same run."""

from collections.abc import Mapping
from typing import Any

from product_cls.core.files import digest

# Keys of the resolved config that change where a run writes or what it shows, not what it computes.
UNFINGERPRINTED = (
    "name",
    "logger",
    "paths",
    "rerun",
    "epochs_from",  # what it comes to is trainer.max_epochs
    "scale_lr",  # optimizer.lr
    "oom_retries",
    # What the pictures, labels and folds are, the other part of the fingerprint tells better.
    "data.name",
    "data.root",
    "data.file",
    "data.test",
    "data.samples.root",
    "data.samples.file",
    "data.samples.test",
    "data.samples.cache",
    "data.stream.cache_gb",
    "folds.file",
    "data.num_workers",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)


def fingerprint(config: Mapping[str, Any], *data: str) -> str:
    """What makes two runs the same run: the resolved config and the data it was trained on.

    Args:
        config: resolved, plain containers.
        data: digests of samples and folds.
    """
    return digest([fingerprinted(config), *data])


def fingerprinted(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config without what does not change what a run computes."""
    return {
        key: fingerprinted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if prefix + key not in UNFINGERPRINTED
    }
