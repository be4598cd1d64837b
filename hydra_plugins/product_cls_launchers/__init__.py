"""Registers the launchers of product_cls with Hydra.

Hydra imports all modules of the namespace package ``hydra_plugins`` whenever it starts, and creates
launchers only from classes that are defined there. Therefore this module must stay light: no torch,
no Lightning, no cluster engine. ``hydra_plugins/`` has no ``__init__.py``, because the plugins of
all installed packages share the folder.

Cluster workers receive Hydra's list of plugins and import the classes from here, too.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins import search_path_plugin

from product_cls.launchers import cluster_settings, clusters, processes


class ProcessesLauncher(processes.ProcessesLauncher):
    """``hydra/launcher=processes``: each job of a sweep is a process on this machine."""


class SlurmLauncher(clusters.SlurmLauncher):
    """``hydra/launcher=submitit_slurm``."""


class SubmititLocalLauncher(clusters.SubmititLocalLauncher):
    """``hydra/launcher=submitit_local``."""


class RayLauncher(clusters.RayLauncher):
    """``hydra/launcher=ray``."""


class LauncherSettings(search_path_plugin.SearchPathPlugin):
    """Registers the settings of the launchers.

    Hydra's plugins for submitit and Ray register settings of the same names when they are imported.
    The last registration wins, and the order of the imports depends on ``sys.path``. Hydra calls
    search path plugins after all imports, so these settings replace the others.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for name, settings in (
            ("processes", processes.ProcessesConf),
            ("submitit_slurm", cluster_settings.SubmititSlurmConf),
            ("submitit_local", cluster_settings.SubmititLocalConf),
            ("ray", cluster_settings.RayConf),
        ):
            ConfigStore.instance().store(
                group="hydra/launcher", name=name, node=settings, provider="product_cls"
            )
