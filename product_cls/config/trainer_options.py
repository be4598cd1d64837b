"""What may be set of each argument of Lightning's ``Trainer``: the one table of it.

A run rests on a rule: each epoch ends with the validation that its checkpoints are judged by, and a
resumed run starts with an epoch. Arguments that break it are refused, and so are those that would
have no effect, because a run sets them itself. ``tests/config/test_trainer_options.py`` compares
the table with the signature of the installed Lightning.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from omegaconf import OmegaConf

from product_cls.config.allowed import FLAG, Allowed, only, whole
from product_cls.core.arguments import as_typed
from product_cls.core.errors import UserError

TARGET = "pytorch_lightning.Trainer"

# Lightning's names and their short forms; `auto` is ours. Others, such as bf16-true, change the
# type of the weights, which pictures and checkpoints do not follow.
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")

VALIDATED = "each epoch ends with the validation that its checkpoint is judged by"
WHOLE_EPOCHS = "a run trains whole epochs; set trainer.max_epochs"


def _share(part: str) -> Allowed:
    return Allowed(
        lambda x: (type(x) is int and x >= 1) or (type(x) is float and 0 < x <= 1),
        f"a number of batches, 1 or more, or a share above 0 and up to 1.0 of the {part} batches",
    )


TRAINER: dict[str, Allowed] = {
    # Machines and arithmetic.
    "accelerator": only("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": only("auto", "ddp", why="ddp is the only one for several devices"),
    "devices": whole(1),
    "num_nodes": whole(1),
    "precision": Allowed(
        lambda x: type(x) in (str, int) and str(x) in PRECISIONS, ", ".join(PRECISIONS[:4])
    ),
    "sync_batchnorm": FLAG,
    "deterministic": only(True, False, "warn", None),
    "benchmark": only(True, False, None),
    "plugins": only(None, why="a run sets them: precision and checkpoints"),
    "use_distributed_sampler": only(False, why="the loaders share the pictures among devices"),
    # How long.
    "max_epochs": whole(1),
    "min_epochs": only(None, 0, 1, why="set callbacks.early_stopping.patience"),
    "max_steps": only(-1, why=WHOLE_EPOCHS),
    "min_steps": only(None, 0, why=WHOLE_EPOCHS),
    "max_time": only(None, why=f"{WHOLE_EPOCHS}, and a run that is stopped goes on later"),
    # Which batches.
    "limit_train_batches": _share("training"),
    "limit_val_batches": _share("validation"),
    "limit_test_batches": only(None, 1.0, why="predictions follow trainer.limit_val_batches"),
    "limit_predict_batches": only(None, 1.0, why="predictions follow trainer.limit_val_batches"),
    "overfit_batches": only(0, 0.0, why="set trainer.limit_train_batches, or data.limit"),
    "fast_dev_run": only(False, 0, why="trainer=debug runs two steps"),
    "reload_dataloaders_every_n_epochs": only(0, why="each epoch has an order of its own"),
    # When to validate, log and save.
    "val_check_interval": only(None, 1.0, why=VALIDATED),
    "check_val_every_n_epoch": only(1, why=VALIDATED),
    "num_sanity_val_steps": only(None, 0, why="settings are checked without training"),
    "log_every_n_steps": whole(1, unit=" of steps"),
    "enable_checkpointing": only(None, True, why="results come from the checkpoints"),
    "enable_progress_bar": FLAG,
    "enable_model_summary": only(None, False, why="metrics.json has the number of parameters"),
    "default_root_dir": only(None, why="set name, or hydra.run.dir"),
    "logger": only(None, why="choose it by logger=NAME"),
    "callbacks": only(None, why="add one by +callbacks.NAME._target_=CLASS"),
    "enable_autolog_hparams": FLAG,
    "model_registry": only(None),
    # Steps.
    "accumulate_grad_batches": whole(1),
    "gradient_clip_val": Allowed(
        lambda x: x is None or (type(x) in (int, float) and x >= 0), "0 or more, or null"
    ),
    "gradient_clip_algorithm": only(None, "norm", "value"),
    "inference_mode": FLAG,
    "detect_anomaly": FLAG,
    "profiler": Allowed(
        lambda x: x is None or (OmegaConf.is_dict(x) and "_target_" in x),
        "null, or {_target_: pytorch_lightning.profilers.SimpleProfiler, dirpath: ., filename: "
        "profile}",
    ),
    "barebones": only(False, why="a run logs and saves"),
}


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse an argument that Lightning's ``Trainer`` does not have.

    Args:
        trainer: the config's node; with a ``_target_`` of the user's own, any argument may be its.

    Raises:
        UserError: naming the key and the nearest argument.
    """
    if trainer.get("_target_") != TARGET:
        return
    for name in trainer:
        if name not in TRAINER and not str(name).startswith("_"):
            close = get_close_matches(str(name), TRAINER, n=1)
            hint = f" Did you mean trainer.{close[0]}?" if close else ""
            raise UserError(
                f"trainer.{name}={as_typed(trainer[name])} is no argument of Lightning's Trainer."
                f"{hint}"
            )
