"""Each argument of Lightning's Trainer: values that are taken, refused and mistyped."""

import inspect
from functools import cache
from typing import Any

import pytest
import pytorch_lightning
from conftest import Refused
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from product_cls.config.checks import check_config
from product_cls.config.compose import compose_config
from product_cls.config.trainer_options import TRAINER

# Argument -> good values, and bad or mistyped ones. A quoted word is text.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "accelerator": (["auto", "cpu"], ["tpu", "null", "1", "[cpu]"]),
    "strategy": (["auto", "ddp"], ["fsdp", "deepspeed", "null", "2"]),
    "devices": (["1", "2"], ["0", "-1", "1.0", "auto", "[0,1]", "9999", "true"]),
    "num_nodes": (["1"], ["0", "one", "1.5", "null"]),
    "precision": (
        ["auto", "32", "32-true", "bf16", "bf16-mixed", "16-mixed", "'16'"],
        ["64-true", "bf16-true", "8", "half", "null", "[32]", "32.0"],
    ),
    "sync_batchnorm": (["false"], ["perhaps", "1", "null"]),
    "deterministic": (["true", "false", "warn", "null"], ["1", "error"]),
    "benchmark": (["true", "false", "null"], ["1", "fast"]),
    "plugins": (["null"], ["[]", "slurm"]),
    "use_distributed_sampler": (["false"], ["true", "0"]),
    "max_epochs": (["1", "300"], ["0", "-1", "2.5", "many", "null", "true"]),
    "min_epochs": (["null", "0", "1"], ["3", "one", "true"]),
    "max_steps": (["-1"], ["0", "5", "1000", "null", "many"]),
    "min_steps": (["null", "0"], ["5", "many"]),
    "max_time": (["null"], ["'00:01:00:00'", "{hours: 1}", "60"]),
    "limit_train_batches": (["1", "1.0", "0.5", "7"], ["0", "0.0", "1.5", "-1", "half", "null"]),
    "limit_val_batches": (["1", "1.0", "0.5", "7"], ["0", "0.0", "1.5", "-1", "true", "nan"]),
    "limit_test_batches": (["null", "1.0"], ["2", "0.5", "all"]),
    "limit_predict_batches": (["null", "1.0"], ["2", "0.5", "all"]),
    "overfit_batches": (["0", "0.0"], ["1", "0.1", "true"]),
    "fast_dev_run": (["false", "0"], ["true", "3", "null"]),
    "reload_dataloaders_every_n_epochs": (["0"], ["1", "true", "null"]),
    "val_check_interval": (["null", "1.0"], ["0.4", "1", "100", "0.0", "'00:10:00:00'", "1.5"]),
    "check_val_every_n_epoch": (["1"], ["2", "0", "null", "1.0"]),
    "num_sanity_val_steps": (["null", "0"], ["2", "-1", "two"]),
    "log_every_n_steps": (["1", "50"], ["0", "-1", "0.5", "null", "often"]),
    "enable_checkpointing": (["null", "true"], ["false", "1"]),
    "enable_progress_bar": (["true", "false"], ["1", "no way", "null"]),
    "enable_model_summary": (["null", "false"], ["true", "0"]),
    "default_root_dir": (["null"], ["/tmp", "1"]),
    "logger": (["null"], ["true", "false", "csv"]),
    "callbacks": (["null"], ["[]", "ema", "{a: 1}"]),
    "enable_autolog_hparams": (["true", "false"], ["0", "null"]),
    "model_registry": (["null"], ["mine"]),
    "accumulate_grad_batches": (["1", "4"], ["0", "1.0", "{0: 2}", "null", "abc"]),
    "gradient_clip_val": (["null", "0", "1", "0.5"], ["-1", "nan", "abc", "true", "[1]"]),
    "gradient_clip_algorithm": (["null", "norm", "value"], ["l2", "1", "Norm"]),
    "inference_mode": (["true", "false"], ["1", "null", "maybe"]),
    "detect_anomaly": (["true", "false"], ["1", "null", "maybe"]),
    "profiler": (
        ["null", "{_target_:pytorch_lightning.profilers.SimpleProfiler}"],
        ["simple", "1", "{a:1}", "true"],
    ),
    "barebones": (["false"], ["true", "0", "null"]),
}


def test_the_table_has_all_arguments_and_no_others() -> None:
    # Lightning's defaults decorate the constructor; the signature is the one that users see.
    arguments = set(inspect.signature(pytorch_lightning.Trainer.__init__).parameters) - {"self"}
    assert arguments == set(TRAINER) == set(VALUES)


@cache
def defaults() -> DictConfig:
    return compose_config([])


def check(name: str, value: str) -> None:
    """Check the config with one argument as typed, without composing it each time."""
    (word,) = OverridesParser.create().parse_overrides([f"++trainer.{name}={value}"])
    config = defaults().copy()
    OmegaConf.update(config, f"trainer.{name}", word.value(), force_add=True, merge=False)
    check_config(config)


@pytest.mark.parametrize("name", VALUES)
def test_values_that_are_taken_and_refused(name: str, refused: Refused) -> None:
    good, bad = VALUES[name]
    for value in good:
        check(name, value)
    for value in bad:
        with refused(f"trainer.{name}=" if name != "devices" else "trainer.devices"):
            check(name, value)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_mistyped_argument_names_the_nearest(name: str, refused: Refused) -> None:
    with refused(f"trainer.{name}s=1 is no argument", f"Did you mean trainer.{name}?"):
        check(f"{name}s", "1")
