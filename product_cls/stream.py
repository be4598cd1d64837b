"""Write the pictures of any data set into shards, to train from with ``data=streaming``.

    python -m product_cls.stream out=shards/shop data=competition data.root=FOLDER

After an interruption, the same command resumes from the shards that exist.
"""

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

from product_cls.core.cli import MISSING, command_words, guard, parse_arguments
from product_cls.core.errors import UserError

PROG = "python -m product_cls.stream"
# Settings of loading and training; shards do not depend on them.
LOADING = [f"data.{key}" for key in ("size", "fit", "batch_size", "per_class", "num_workers")]


@dataclass
class Arguments:
    """Write pictures into shards. Other words select the data, as for training: data=competition
    data.root=FOLDER, or experiment=NAME.

    out: folder of the shards; it can be copied anywhere afterwards, to an object store too.
    shard: pictures in a shard.
    side: larger pictures are reduced to this shorter side, in pixels, as JPEG of quality 95; null
      keeps every file's own bytes, so that training sees exactly the same pictures.
    """

    out: str = MISSING
    shard: int = 1000
    side: int | None = None


def compose_data(words: list[str]) -> "DictConfig":
    """Compose the config that train.py would have for words that select data.

    Raises:
        UserError: a word that has no effect on shards, or that train.py would refuse.
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key in LOADING:
            hint = "; side=PIXELS makes pictures smaller" if key == "data.size" else ""
            raise UserError(
                f"{word} has no effect on shards, give it to {command_words('train')}{hint}."
            )
        if key not in ("data", "experiment", "paths.cache") and not key.startswith("data."):
            raise UserError(
                f"{word} has no effect on shards; allowed beside "
                f"{', '.join(f'{f.name}=...' for f in fields(Arguments))}: data=..., "
                f"data.KEY=..., experiment=..., paths.cache=...."
            )
    from product_cls.config.checks import check_config
    from product_cls.config.compose import compose_config

    config = compose_config(words)
    check_config(config)
    if config.data.get("stream") is not None:
        raise UserError("data=streaming is in shards already; name the data to write into shards.")
    if config.data.limit is not None:
        raise UserError(
            f"data.limit={config.data.limit} has no effect on shards; set it to null here, and "
            f"give it to {command_words('train')}."
        )
    return config


def main() -> None:
    """Entry point of ``python -m product_cls.stream``."""
    names = {field.name for field in fields(Arguments)}
    words = sys.argv[1:]
    own = [word for word in words if word.partition("=")[0] in names or word in ("-h", "--help")]
    arguments = parse_arguments(Arguments, own, prog=PROG)

    # Imported here, so that --help and errors do not wait for torch.
    import pandas as pd

    from product_cls.config.border import keys_for_arguments
    from product_cls.config.instantiate import build
    from product_cls.data.stream.index import INDEX, SAMPLES
    from product_cls.data.stream.writing import write_stream

    config = compose_data([word for word in words if word not in own])
    samples: pd.DataFrame = build(config.data.samples)
    out = Path(arguments.out).expanduser()
    with keys_for_arguments("data", shard_size="shard", side="side"):
        write_stream(
            samples,
            out,
            shard_size=arguments.shard,
            side=arguments.side,
            on_unreadable=config.data.on_unreadable,
            max_pixels=config.data.max_pixels,
        )
    shards = json.loads((out / INDEX).read_text())["shards"]
    counts = pd.read_csv(out / SAMPLES, usecols=["split"])["split"].value_counts(sort=False)
    parts = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(
        f"{counts.sum()} pictures ({parts}) in {len(shards)} shards, "
        f"{sum(size for _, size, _ in shards) / 1e6:.1f} MB -> {out}\n"
        f"{command_words('train')} data=streaming data.root={out}"
    )


if __name__ == "__main__":
    guard(main)
