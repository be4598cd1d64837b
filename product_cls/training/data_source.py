"""Where a run's pictures come from: an image store, or shards; and where these lie."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.data.store import ImageStore, build_store
from product_cls.data.stream.files import is_address
from product_cls.data.stream.reading import StreamStore


def assemble_store(
    config: DictConfig,
    samples: pd.DataFrame,
    size: tuple[int, int],
    *,
    warn: Callable[[str], None],
) -> ImageStore | StreamStore:
    """Where pictures come from: a store of decoded ones, or for ``data=streaming`` shards.

    Args:
        samples: the sample table.
        size: height and width in pixels.
        warn: takes warnings.

    Raises:
        UserError: whatever they refuse; settings that shards do not go with.
    """
    data = config.data
    if data.get("stream") is None:
        return build_store(
            samples,
            cache_folder(config) / f"store-{size[0]}x{size[1]}-{data.fit}",
            size,
            fit=data.fit,
            on_unreadable=data.on_unreadable,
            warn=warn,
        )
    if data.on_unreadable != "stop":
        raise UserError(
            f"data.on_unreadable={data.on_unreadable} has no effect on shards; give it to python "
            f"-m product_cls.stream, which tries all pictures."
        )
    if data.per_class is not None and is_address(str(data.root)):
        raise UserError(
            f"data.per_class={data.per_class} draws from all shards at once, which an address "
            f"cannot serve; copy the shards to a folder, or set it to null."
        )
    return StreamStore(
        samples,
        str(data.root),
        size,
        fit=data.fit,
        window=data.stream.window,
        cache_gb=data.stream.cache_gb,
        cache=config.paths.cache,
    )


def cache_folder(config: DictConfig) -> Path:
    """Where stores and folds of this data set lie; two data sets of one name do not share it."""
    sources = [config.data.get(key) for key in ("root", "file")]
    places = [s if s is None or is_address(str(s)) else _absolute(s) for s in sources]
    mark = digest(places)[:8]
    subset = "" if config.data.limit is None else f"-limit{config.data.limit}"
    return Path(config.paths.cache) / f"{config.data.name}-{mark}{subset}"


def _absolute(place: str) -> str:
    return os.path.abspath(Path(place).expanduser())
