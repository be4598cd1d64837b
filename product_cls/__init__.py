"""Train, compare and combine image classifiers for retail products.

The functions of the Python API are imported when they are first used, because torch takes seconds.
"""

import importlib
import sys
from types import ModuleType
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

    __version__: str

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

# Packages that share their name with a function of the API.
PACKAGES = ("ensemble", "runs")


class ApiPackage(ModuleType):
    """A package that can be called as the function of its name: ``product_cls.ensemble([...])``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent, _, name = self.__name__.rpartition(".")
        return getattr(importlib.import_module(f"{parent}.api"), name)(*args, **kwargs)


class Root(ModuleType):
    """Makes ``PACKAGES`` callable when they are imported.

    The import system then sets the attribute ``ensemble`` of this package to the imported package,
    in place of a function of that name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PACKAGES and isinstance(value, ModuleType):
            value.__class__ = ApiPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = Root

# While `python -m product_cls.NAME` looks for the module.
if sys.argv[:1] == ["-m"] and any(word.startswith(f"{__name__}.") for word in sys.orig_argv):
    importlib.import_module(f"{__name__}.__main__").refuse_module_without_command()


def __getattr__(name: str) -> Any:
    if name in PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("product-cls")
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.api"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
