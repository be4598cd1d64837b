"""Runs in this process: composing the config and training as `python train.py` does, without the
seconds that a new process spends on imports."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

import product_cls.launcher  # noqa: F401  (conf/config.yaml names its launcher)
from product_cls.resolvers import register_resolvers
from product_cls.runs import RunFolder

ROOT = Path(__file__).parents[1]

# The smallest complete run: 4 classes, a network that takes milliseconds, one epoch.
TINY = (
    "data=competition",
    "data.size=32",
    "data.batch_size=8",
    "model=tiny",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "folds.n_splits=2",
)


def train(folder: Path, data: Path, *overrides: str) -> RunFolder:
    """Run in ``folder`` on the competition's layout at ``data``; ``overrides`` come last.

    Raises:
        SystemExit: as `python train.py` would exit.
    """
    from product_cls.train import run

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(
            "config",
            [*TINY, f"data.root={data}", f"paths.cache={folder.parent / 'cache'}", *overrides],
            return_hydra_config=True,
        )
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.job.override_dirname = ""
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, None)
    with open_dict(config):
        del config["hydra"]
    try:
        run(config)
    finally:
        GlobalHydra.instance().clear()
    return RunFolder(folder)
