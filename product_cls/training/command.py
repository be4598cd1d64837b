"""``product-cls train`` and ``python train.py``: the Hydra application.

Imports neither torch nor Lightning, which take seconds, so that errors on the command line appear
at once.
"""

import gc
import sys

import hydra
from omegaconf import DictConfig

from product_cls.config.compose import conf_folder, own_conf_folder
from product_cls.config.hints import hinting
from product_cls.config.resolvers import register_resolvers
from product_cls.core.cli import closed_pipe_exits
from product_cls.core.errors import UserError
from product_cls.core.interrupts import interrupt_exits


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def train(config: DictConfig) -> float | None:
    """Train one run in the folder that Hydra created."""
    from product_cls.training.run import run

    if not gc.get_freeze_count():  # the first of several jobs in this process
        gc.freeze()  # imported objects live until the end; collections need not visit them
    return run(config)


def main() -> None:
    """Read the command line and train; with ``-m``, sweep."""
    register_resolvers()
    try:
        own_conf_folder()  # checked here, where Hydra would print a traceback
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    with closed_pipe_exits(), interrupt_exits(), hinting():
        train()
