"""The data of a run: samples, folds and the store of pictures."""

import logging
import os
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from product_cls.config.border import keys_for_arguments, keys_for_node
from product_cls.config.instantiate import build
from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.data.folds import groups_in_several_folds, load_or_make_folds, split_rows
from product_cls.data.picture_store import PictureStore
from product_cls.data.samples import take_subset
from product_cls.data.store import build_store
from product_cls.data.stream.files import is_address
from product_cls.data.stream.reading import StreamStore
from product_cls.data.suspicions import suspicions
from product_cls.tasks import Task

log = logging.getLogger(__name__)


def build_samples(config: DictConfig) -> tuple[pd.DataFrame, Task]:
    """Read the sample table, reduced to ``data.limit``, and fit the task to it.

    Logs warnings about labels and pictures that are probably mistakes.

    Raises:
        UserError: the readers or the task refuse the data or the settings.
    """
    samples: pd.DataFrame = build(config.data.samples)
    task: Task = build(config.task)
    if config.data.limit is not None:
        with keys_for_node(config.task):
            columns = task.stratify_by(samples)
        with keys_for_arguments("data", seed="folds.seed"):
            samples = take_subset(samples, config.data.limit, label=columns, seed=config.folds.seed)
    with keys_for_node(config.task):
        task.fit(samples)
        columns = task.stratify_by(samples)
    for sentence in suspicions(samples, columns):
        log.warning(sentence)
    return samples, task


def build_folds(
    config: DictConfig, samples: pd.DataFrame, task: Task, fold: int | str
) -> "pd.Series[int]":
    """Read the folds from their file, which is computed and written first if it is missing.

    Logs a warning for each class that a split lacks, and for groups that are in several folds.

    Args:
        config: the run's config.
        samples: the sample table.
        task: fitted to the samples.
        fold: number of the fold to hold out, or ``all``; see ``parse_fold``.

    Returns:
        int64, index ``id``: the fold that holds each sample out; -1 for none.

    Raises:
        UserError: the strategy does not fit the samples, the file belongs to other samples,
            ``fold`` does not exist, or the task cannot learn from this split.
    """
    settings = config.folds
    name = f"folds-{task.label}-{settings.strategy}-{settings.n_splits}-seed{settings.seed}.csv"
    with keys_for_node(config.task):
        columns = task.stratify_by(samples)
    with keys_for_node(settings):
        folds = load_or_make_folds(
            Path(settings.file or cache_folder(config) / name),
            samples,
            settings.strategy,
            n_splits=settings.n_splits,
            seed=settings.seed,
            label=columns,
        )
    targets, ids = task.encode(samples), samples["id"]
    with keys_for_arguments():
        parts = split_rows(folds, fold)
    with keys_for_node(config.task):
        warnings = task.check_parts(*(targets[ids.isin(part)] for part in parts))
    for warning in warnings:
        log.warning(warning)
    if settings.strategy == "stratified" and (
        split_groups := groups_in_several_folds(samples, folds)
    ):
        log.warning(
            "%d groups (people, films) have pictures in several folds, so training sees groups "
            "that validation uses; folds.strategy=stratified_group keeps each in one fold.",
            split_groups,
        )
    return folds


def build_picture_store(
    config: DictConfig, samples: pd.DataFrame, size: tuple[int, int]
) -> PictureStore:
    """Open the pictures of a run: a store of decoded pictures, or shards with ``data=streaming``.

    Args:
        config: the run's config.
        samples: the sample table.
        size: height and width in pixels.

    Raises:
        UserError: the store or the shards refuse the pictures or the settings, or a setting has no
            effect on shards.
    """
    data = config.data
    if data.get("stream") is None:
        with keys_for_arguments("data", folder="paths.cache", max_pixels="data.max_pixels"):
            return build_store(
                samples,
                cache_folder(config) / f"store-{size[0]}x{size[1]}-{data.fit}",
                size,
                fit=data.fit,
                on_unreadable=data.on_unreadable,
                max_pixels=data.max_pixels,
                warn=log.warning,
            )
    if data.on_unreadable != "stop":
        raise UserError(
            f"data.on_unreadable={data.on_unreadable} has no effect on shards; set it for python "
            f"-m product_cls.stream, which decodes every picture."
        )
    if data.per_class is not None and is_address(str(data.root)):
        raise UserError(
            f"data.per_class={data.per_class} draws from all shards at once, which an address "
            f"cannot serve; copy the shards to a folder, or set it to null."
        )
    with keys_for_arguments(
        "data", window="data.stream.window", cache_gb="data.stream.cache_gb", cache="paths.cache"
    ):
        return StreamStore(
            samples,
            str(data.root),
            size,
            fit=data.fit,
            max_pixels=data.max_pixels,
            window=data.stream.window,
            cache_gb=data.stream.cache_gb,
            cache=config.paths.cache,
        )


def cache_folder(config: DictConfig) -> Path:
    """Folder of the stores and folds of this data set.

    Its name includes a digest of the data's location, so that data sets of the same name have
    different folders.
    """
    sources = [config.data.get(key) for key in ("root", "file")]
    places = [s if s is None or is_address(str(s)) else _absolute(s) for s in sources]
    location = digest(places)[:8]
    subset = "" if config.data.limit is None else f"-limit{config.data.limit}"
    return Path(config.paths.cache) / f"{config.data.name}-{location}{subset}"


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())
