"""`python train.py ...` with the CPU seconds of each stage; start_up.py runs it.

Threads of the process count; processes that it starts do not.
"""

import gc
import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

FIRST = "trainer and first step"
STAGES: dict[str, float] = {"interpreter, or being copied": time.process_time()}


def mark(stage: str) -> None:
    """Book the CPU time since the last mark on ``stage``."""
    spent = time.process_time() - sum(STAGES.values())
    STAGES[stage] = STAGES.get(stage, 0.0) + spent


def train(config: Any) -> None:
    """``product_cls.training.run.run``, stage by stage."""
    mark("config")
    for name in ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "timm"):
        import_module(name)
        mark(f"import {name}")
    import product_cls.training.run as run

    if os.environ["START_UP_FREEZE"] == "yes":  # as train.py does
        gc.freeze()
    mark("import albumentations, ours")
    import product_cls.training.fit as fit

    make_plan, build_parts = run.make_plan, run.build_parts
    checkpoint_callbacks = fit.checkpoint_callbacks

    def timed_plan(*arguments: Any, **options: Any) -> Any:
        plan = make_plan(*arguments, **options)
        mark("samples and folds")
        return plan

    def timed_parts(*arguments: Any) -> Any:
        parts = build_parts(*arguments)
        mark("store, loaders and network")
        return parts

    class Clock(run.pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            mark("steps after the first" if FIRST in STAGES else FIRST)

        def on_train_end(self, *_: Any) -> None:
            mark("steps after the first")

    run.make_plan, run.build_parts = timed_plan, timed_parts
    fit.checkpoint_callbacks = lambda *each: [*checkpoint_callbacks(*each), Clock()]
    run.run(config)
    mark("predictions and results")


if __name__ == "__main__":
    import hydra

    import product_cls.launchers.clusters  # noqa: F401
    from product_cls.config.hints import hinting
    from product_cls.config.resolvers import register_resolvers

    register_resolvers()
    mark("import Hydra, launchers")
    conf = str(Path(__file__).resolve().parents[1] / "conf")
    with hinting():
        hydra.main(version_base="1.3", config_path=conf, config_name="config")(train)()
    Path(os.environ["START_UP_STAGES"]).write_text(json.dumps(STAGES))
