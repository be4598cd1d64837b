"""Adds the folder that ``PRODUCT_CLS_CONF`` names to Hydra's search path for config groups.

Hydra imports this module in every application, so it imports nothing heavy.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from product_cls.config.compose import OWN_CONF, own_conf_folder


class OwnGroups(SearchPathPlugin):
    """Appends the folder, so that its options are available beside those of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if folder := own_conf_folder():
            search_path.append(OWN_CONF, f"file://{folder}")
