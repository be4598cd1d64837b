"""``product-cls train`` and ``python train.py``: the Hydra application.

Imports neither torch nor Lightning, which take seconds that a mistake on the command line should
not cost.
"""

import gc
import sys

import hydra
from omegaconf import DictConfig

from product_cls.config.compose import conf_folder, own_conf_folder
from product_cls.config.hints import hinting
from product_cls.config.resolvers import register_resolvers
from product_cls.core.errors import UserError


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def train(config: DictConfig) -> float | None:
    """One run, in the folder that Hydra has made for it."""
    from product_cls.training.run import run

    if not gc.get_freeze_count():  # the first of several jobs in this process
        gc.freeze()  # imported objects live until the end, so collections need not look at them
    return run(config)


def main() -> None:
    """Read the command line and train; with ``-m``, sweep."""
    register_resolvers()
    try:
        own_conf_folder()  # checked here, where Hydra would print a traceback
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    with hinting():
        train()
