"""Fingerprints of runs: digests of the data and of the settings that change results."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from product_cls.core.files import digest, file_checksum
from product_cls.core.weight_sources import WEIGHT_SOURCES

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
    "data.picture_folder",
    "data.samples.picture_folder",
    "data.samples.root",
    "data.samples.file",
    "data.samples.test",
    "data.samples.cache",
    *(f"data.samples.{key}" for key in ("encoding", "separator", "on_empty")),
    "data.stream.cache_gb",
    "data.max_pixels",  # the contents of the store say which pictures were refused
    "folds.file",
    "folds.min_per_class",
    "data.fold_column",
    "data.samples.fold_column",
    "data.num_workers",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)


# Groups whose files are no inputs of the network: samples and folds have digests of their own, and
# callbacks may write the files that they name.
OTHER_FILES = ("data", "folds", "paths", "callbacks", "trainer")

# Settings that came later: key -> the value with which runs are as they were before.
ADDED: dict[str, Any] = {
    "monitor": None,
    "metrics": {},
    "keep": "best",
    "augment_ramp": 0.0,
    "adapt": None,
    "adapt_share": 1.0,
    "adapt_views": "unseen",
    "start": None,
    "teacher": None,
    "model.joined": [],
    "data.corrections": None,
    "finetune.lora": None,
    "finetune.lora_alpha": 16,
    **{f"data.{name}": None for name in ("pitches", "test_pitches", "test_share")},
    **{f"data.samples.{name}": None for name in ("pitches", "test_pitches", "test_share")},
}


def fingerprint(config: Mapping[str, Any], *data: str) -> str:
    """Digest of a run's settings and data, without the contents of pictures.

    A setting that names a file, such as ``model.weights``, counts by the file's contents.

    Args:
        config: resolved, plain containers.
        data: digests of samples and folds.
    """
    return digest([_with_contents_of_files(fingerprinted(config)), *data])


def with_contents(settings: str, contents: str) -> str:
    """The whole fingerprint of a run: runs with equal ones have equal results.

    Args:
        settings: from ``fingerprint``.
        contents: digest of the pictures.
    """
    return f"{settings}-{contents}"


def has_settings(recorded: object, settings: str) -> bool:
    """Whether a recorded whole fingerprint is of these settings, whatever its pictures.

    It is not if a version before 0.3 recorded it, which did not know the contents.
    """
    return str(recorded).startswith(with_contents(settings, ""))


def _with_contents_of_files(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in which the digest of each named file stands for its path."""

    def replaced(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {name: replaced(item, str(name)) for name, item in value.items()}
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if not isinstance(value, str):
            return value
        if key == "teacher" and Path(value).is_dir():
            return f"folder:{_answers_of(Path(value))}"
        # A bare word is a choice, even where a file of that name happens to lie about.
        weights = key == "weights" and value not in WEIGHT_SOURCES
        if not weights and not re.search(r"[./\\]", value):
            return value
        try:
            return f"file:{file_checksum(Path(value))}"
        except (OSError, ValueError):  # no file; what needs one will say so
            return value

    return {
        key: value if key in OTHER_FILES else replaced(value, key) for key, value in config.items()
    }


def _answers_of(folder: Path) -> str:
    """Digest of the predictions below a folder, which change when a run in it is trained anew."""
    files = sorted(
        file for file in folder.rglob("predictions/*.npz") if ".replaced" not in file.parts
    )
    return digest([[str(file.relative_to(folder)), file_checksum(file)] for file in files])


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
        kept[key] = value
    return kept
