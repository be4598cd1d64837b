"""The data of a run: samples, folds and the store of pictures."""

import logging
import os
import re
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from product_cls.config.border import keys_for_arguments, keys_for_node
from product_cls.config.instantiate import build, to_plain
from product_cls.config.values import parse_fold
from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.core.names import nfc
from product_cls.data.class_sizes import small_classes
from product_cls.data.corrections import apply_corrections
from product_cls.data.faults import listed
from product_cls.data.fold_names import ALL, fold_number, view_names
from product_cls.data.folds import (
    STRATIFIED,
    Strategy,
    check_strategy,
    groups_in_several_folds,
    split_rows,
)
from product_cls.data.folds_file import automatic_file, load_or_make_folds
from product_cls.data.picture_store import PictureStore
from product_cls.data.samples import GIVEN_FOLD, Strata, take_subset
from product_cls.data.store import build_store
from product_cls.data.stream.files import is_address
from product_cls.data.stream.reading import StreamStore
from product_cls.data.suspicions import suspicions
from product_cls.runs.folder import RunFolder
from product_cls.tasks import Task
from product_cls.training.mixed_folds import check_sweep

log = logging.getLogger(__name__)


def build_samples(config: DictConfig) -> tuple[pd.DataFrame, Task]:
    """Read the sample table, corrected by ``data.corrections`` and reduced to ``data.limit``, and
    fit the task to it.

    Raises:
        UserError: the readers or the task refuse the data or the settings.
    """
    samples: pd.DataFrame = build(config.data.samples)
    if (file := config.data.get("corrections")) is not None:
        with keys_for_arguments("data"):
            samples = apply_corrections(samples, Path(str(file)))
    task: Task = build(config.task)
    if config.data.limit is not None:
        with keys_for_node(config.task):
            columns = task.stratify_by(samples)
        with keys_for_arguments("data", seed="folds.seed"):
            samples = take_subset(samples, config.data.limit, label=columns, seed=config.folds.seed)
    with keys_for_node(config.task):
        task.fit(samples)
    return samples, task


def warn_of_suspicions(config: DictConfig, samples: pd.DataFrame, task: Task) -> None:
    """Log warnings about labels and pictures that are probably mistakes.

    Apart from ``build_samples``, which each rank repeats: this reads pictures.

    Args:
        config: the run's config.
        samples: the sample table.
        task: fitted to the samples.

    Raises:
        UserError: the task refuses the data.
    """
    with keys_for_node(config.task):
        columns = task.stratify_by(samples)
    for sentence in suspicions(samples, columns):
        log.warning(sentence)


def build_folds(
    config: DictConfig, samples: pd.DataFrame, task: Task, folder: RunFolder | None = None
) -> tuple["pd.Series[int]", int | str]:
    """Read the folds from their file, which is computed and written first if it is missing.

    With ``fold=all`` there are no folds: it holds out nothing, so nothing is checked or computed.

    Logs warnings about groups in several folds, classes that are always learned from, and samples
    that have changed since folds were computed.

    Args:
        config: the run's config.
        samples: the sample table.
        task: fitted to the samples.
        folder: of the run, to compare its sweep's folds; None to compare nothing.

    Returns:
        int64, index ``id``: the fold that holds each sample out, -1 for none; and the number of the
        fold that the config names, or ``all``.

    Raises:
        UserError: the strategy does not fit the samples, the file belongs to other samples,
            ``fold`` does not exist, a finished run of the sweep held out other samples, or the task
            cannot learn from this split.
    """
    settings = config.folds
    fold = parse_fold(config.fold, config.folds.strategy)
    rows = samples[samples["split"] != "test"]
    with keys_for_node(config.task):
        columns = task.stratify_by(samples)
    with keys_for_node(settings):
        strategy = _strategy(config, samples)
        if fold == ALL:
            folds = pd.Series(-1, index=pd.Index(rows["id"], name="id"), name="fold")
        else:
            folds = _load_folds(config, samples, task, strategy, columns, folder)
        least = settings.get("min_per_class")
        small, names = small_classes(rows, columns, least)
    if fold != ALL and settings.file is None and small.any():
        log.info(
            "folds.min_per_class=%d: %d classes with fewer pictures are always learned from: %s.",
            least,
            len(names),
            listed(names, 20),
        )
    by_view = strategy == "view" and fold != ALL and "view" in samples
    view_folds = view_names(samples, folds) if by_view else None
    with keys_for_arguments():
        number = fold_number(folds, fold, view_folds)
        learned, held_out = split_rows(folds, number)
    targets, ids = task.encode(samples), samples["id"]
    with keys_for_node(config.task):
        warnings = task.check_parts(*(targets[ids.isin(part)] for part in (learned, held_out)))
    for warning in warnings:
        log.warning(warning)
    if strategy == "stratified" and (split_groups := groups_in_several_folds(samples, folds)):
        log.warning(
            "%d groups (people, films) have pictures in several folds, so training sees groups "
            "that validation uses; folds.strategy=stratified_group keeps each in one fold.",
            split_groups,
        )
    return folds, number


def _strategy(config: DictConfig, samples: pd.DataFrame) -> Strategy:
    """The strategy of the folds: those of the samples' own column, if they have one.

    Raises:
        ValueError: the column does not go with other settings.
        UserError: it does not go with a file of folds.
    """
    settings = config.folds
    strategy: Strategy = settings.strategy
    check_strategy(strategy)
    if GIVEN_FOLD not in samples:
        return strategy
    if settings.file is not None:
        raise UserError(
            f"folds.file={settings.file} and a column of folds (data.fold_column) are two sets of "
            f"folds; leave one of them out."
        )
    if strategy not in ("stratified", "column"):  # stratified is the default
        raise ValueError(
            f"strategy={strategy} does not go with a column of folds (data.fold_column), which "
            f"says itself what is held out; leave one of them out."
        )
    return "column"


def _load_folds(
    config: DictConfig,
    samples: pd.DataFrame,
    task: Task,
    strategy: Strategy,
    columns: Strata,
    folder: RunFolder | None,
) -> "pd.Series[int]":
    """The folds from the user's file, or from the automatic one of these samples."""
    settings = config.folds
    least = settings.get("min_per_class")
    if settings.file is not None:
        file = Path(str(settings.file))
    else:
        prefix = cache_folder(config) / _file_prefix(config, task, strategy)
        file, earlier = automatic_file(
            prefix, samples, strategy, label=columns, min_per_class=least
        )
        if earlier is not None:
            if folder is not None:
                check_sweep(folder, earlier)
            log.warning(
                "The samples have changed since their folds were computed (%s), so new folds are "
                "computed (%s); a run with the earlier folds cannot be blended with this one.",
                earlier,
                file.name,
            )
    return load_or_make_folds(
        file,
        samples,
        strategy,
        n_splits=settings.n_splits,
        seed=settings.seed,
        label=columns,
        min_per_class=least,
        automatic=settings.file is None,
    )


def _file_prefix(config: DictConfig, task: Task, strategy: Strategy) -> str:
    """Beginning of the name of the automatic folds file: column and settings.

    It ends with a digest of the way in which the samples are read, because another label column is
    no change of the samples.
    """
    settings = config.folds
    column = task.label
    if column == "label":
        column = str(config.data.get("label_column") or column)
    word = re.sub(r"[^\w.+-]+", "_", nfc(column))[:40]
    places = ("_target_", "root", "file", "test", "cache", "picture_folder")
    reading = {k: v for k, v in to_plain(config.data).get("samples", {}).items() if k not in places}
    number = f"-{settings.n_splits}-seed{settings.seed}" if strategy in STRATIFIED else ""
    least = settings.get("min_per_class")
    few = "" if least is None else f"-min{least}"
    key = digest([task.label, reading])[:4]
    return f"folds-{word}-{strategy}{number}{few}-{key}"


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
