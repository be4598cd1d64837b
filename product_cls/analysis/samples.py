"""The sample table of a finished run, read again from the data that its config names.

A run folder may come from anyone, so its config is data and never code: only readers that the
package's own config names are called, or those of the user's folder ``PRODUCT_CLS_CONF``, with
plain values, and nothing is rendered, fetched or interpolated.
"""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml

from product_cls.config.compose import OWN_CONF, group_files
from product_cls.core.errors import UserError, reason
from product_cls.data.letters import read_letters
from product_cls.data.rendered import read_rendered
from product_cls.runs.folder import RunFolder

# Readers that make missing pictures, and the file that a finished set has.
MADE = {read_rendered: "rendered.json", read_letters: "letters.json"}


def read_samples(folder: RunFolder) -> pd.DataFrame:
    """Read the sample table of a run again, from the data that its config names.

    Raises:
        FileNotFoundError: the data no longer exists.
        UserError: the config names a reader that is not trusted. The reader may raise other errors.
    """
    # Imported here because Hydra's imports take a while.
    from hydra.utils import get_method

    node = folder.config()["data"]["samples"]
    if not isinstance(node, Mapping):
        raise UserError(f"{folder.config_file}: data.samples names no reader.")
    target = str(node.get("_target_"))
    if target not in trusted_readers():
        raise UserError(
            f"{folder.config_file}: data.samples._target_={target} is not a reader of this "
            f"package, and a run folder from elsewhere could name any program; if it is yours, "
            f"name it in data/NAME.yaml of a folder of your own and set {OWN_CONF}=FOLDER."
        )
    arguments = {str(key): value for key, value in node.items() if key != "_target_"}
    if odd := [key for key in arguments if key.startswith("_")]:
        raise UserError(f"{folder.config_file}: data.samples.{odd[0]} is not an argument.")
    for key, value in arguments.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, str | int | float) for part in parts):
            raise UserError(f"{folder.config_file}: data.samples.{key} is no plain value.")
    for key in ("root", "file"):
        place = arguments.get(key)
        # Checked first: the reader of rendered products would render missing ones, and that of
        # shards would fetch them.
        if place and not Path(place).expanduser().exists():
            raise FileNotFoundError(f"there is no data.{key}={place}")
    reader = cast(Any, get_method(target))
    try:
        signature(reader).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{folder.config_file}: data.samples: {reason(error)}.") from None
    if reader in MADE and not (Path(str(arguments.get("root"))) / MADE[reader]).is_file():
        raise FileNotFoundError(f"data.root={arguments.get('root')} holds no finished set")
    samples: pd.DataFrame = reader(**arguments)
    return samples


def trusted_readers() -> set[str]:
    """Import paths of the readers that ``conf/data``, or the user's own folder, names."""
    readers = set()
    for file in group_files("data").values():
        try:
            readers.add(yaml.safe_load(file.read_text(encoding="utf-8"))["samples"]["_target_"])
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            continue  # a file without a reader, such as base.yaml
    return {str(reader) for reader in readers}
