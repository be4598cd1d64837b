"""Short names of networks: the options of the config group ``model``."""

from typing import Any

from product_cls.config.compose import group_files
from product_cls.core.documents import read_yaml

KEYS = ("backbone", "pooling", "weights")


def model_settings(name: str) -> dict[str, str]:
    """Backbone, pooling and weights of a short name, such as ``lite0``, or of a name of timm.

    Args:
        name: an option of ``conf/model``; any other name is taken for a backbone.

    Raises:
        UserError: ``PRODUCT_CLS_CONF`` names no folder.
    """
    files = group_files("model")
    settings: dict[str, Any] = read_yaml(files["base"], dict)
    own = read_yaml(files[name], dict) if name in files and name != "base" else {"backbone": name}
    return {key: str((settings | own)[key]) for key in KEYS}
