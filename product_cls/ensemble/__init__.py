"""Finished runs as one system. The package is callable, as ``ensemble`` of the Python API."""

from product_cls.core.api_packages import make_callable

make_callable(__name__)
