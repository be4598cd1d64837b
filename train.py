"""Train one network, or with -m a sweep of them; conf/config.yaml says what can be set."""

import gc

import hydra
from omegaconf import DictConfig

import product_cls.launchers.clusters  # noqa: F401  (registers all hydra/launcher)
from product_cls.config.hints import hinting
from product_cls.config.resolvers import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    # Imported here: torch and Lightning take seconds, a mistake on the command line should not.
    from product_cls.training.run import run

    if not gc.get_freeze_count():  # of several jobs in one process the first
        gc.freeze()  # what is imported stays; at the end Python would look through it several times
    return run(config)


if __name__ == "__main__":
    with hinting():
        main()
