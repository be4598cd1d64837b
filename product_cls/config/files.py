"""Files and folders that settings name, looked for before torch, whose import takes seconds."""

from pathlib import Path
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from product_cls.config.border import keys_for_arguments
from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.core.weight_sources import WEIGHT_SOURCES

# Readers of pictures that must exist; others make their data, or fetch it.
READERS = ("product_cls.data.readers.", "product_cls.data.label_table.", "product_cls.data.people.")


def check_files(config: DictConfig) -> None:
    """Refuse files and folders that do not exist, with the sentences of those who read them.

    A file that is there is not opened.

    Args:
        config: composed and checked.

    Raises:
        UserError: naming the key.
    """
    weights, start = str(config.model.weights), config.start
    if weights not in WEIGHT_SOURCES and not Path(weights).expanduser().exists():
        raise UserError(
            f"model.weights={shown(weights)}: no such file; allowed: {', '.join(WEIGHT_SOURCES)}, "
            f"or a file."
        )
    if start is not None and not Path(str(start)).expanduser().exists():
        raise UserError(f"start={shown(start)}: There is no checkpoint {shown(start)}.")
    places = [config.data.get(key) for key in ("root", "file")]
    given = [Path(str(place)).expanduser() for place in places if place is not None]
    arguments: Any = OmegaConf.to_container(config.data.samples, resolve=True)
    target = str(arguments.pop("_target_", ""))
    if target.startswith(READERS) and not all(place.exists() for place in given):
        with keys_for_arguments("data"):
            get_method(target)(**arguments)  # says what should be there
