"""Packages that are also functions of the Python API."""

import importlib
import sys
from types import ModuleType
from typing import Any


class ApiPackage(ModuleType):
    """A package that can be called: ``product_cls.ensemble([...])``.

    Importing the package sets the attribute ``product_cls.ensemble`` to it, so a function of that
    name has to be the package itself.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent, _, name = self.__name__.rpartition(".")
        return getattr(importlib.import_module(f"{parent}.api"), name)(*args, **kwargs)


def make_callable(package: str) -> None:
    """Make a call of an imported package call the function of its name in ``product_cls.api``."""
    sys.modules[package].__class__ = ApiPackage
