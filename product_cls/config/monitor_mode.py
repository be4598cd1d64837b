"""Whether higher or lower values of a monitored metric are better."""

from collections.abc import Mapping
from typing import Any, Literal

from omegaconf import OmegaConf

Mode = Literal["max", "min"]


def mode_of(monitor: str, metrics: Mapping[str, Any]) -> Mode:
    """Whether higher or lower values of a metric are better.

    Args:
        monitor: name of a logged metric.
        metrics: the config's further metrics, which say so themselves (``higher_is_better``).
    """
    node: Any = metrics.get(monitor.removeprefix("val/"))
    if OmegaConf.is_dict(node) and "_target_" in node:
        from product_cls.config.instantiate import build  # imports torch

        return "min" if getattr(build(node), "higher_is_better", True) is False else "max"
    return "min" if "loss" in monitor else "max"
