"""Packages whose names are functions of the Python API, too."""

import importlib
import sys
from types import ModuleType
from typing import Any


class ApiPackage(ModuleType):
    """A package that can be called: ``product_cls.ensemble([...])``.

    The attribute ``product_cls.ensemble`` is the package as soon as anything imports it, so a
    function of that name has to be the package itself.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent, _, name = self.__name__.rpartition(".")
        return getattr(importlib.import_module(f"{parent}.api"), name)(*args, **kwargs)


def make_callable(package: str) -> None:
    """Let calls of an imported package go to the function of its name in ``product_cls.api``."""
    sys.modules[package].__class__ = ApiPackage
