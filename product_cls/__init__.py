"""Train, compare and combine image classifiers for retail products.

The functions of the Python API are imported when they are first used, because torch takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from product_cls.api import (
        Model,
        Run,
        UserError,
        compose,
        ensemble,
        load,
        read_predictions,
        runs,
        train,
    )

__all__ = [
    "Model",
    "Run",
    "UserError",
    "compose",
    "ensemble",
    "load",
    "read_predictions",
    "runs",
    "train",
]

PACKAGES = ("ensemble", "runs")  # callable, see core.api_packages


def __getattr__(name: str) -> Any:
    if name in PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.api"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
