"""Run folders and what makes two runs the same; called, the function ``runs`` of the Python API."""

from product_cls.core.api_packages import make_callable

make_callable(__name__)
