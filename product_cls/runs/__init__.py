"""Run folders and fingerprints of runs; calling the package is ``runs`` of the Python API."""

from product_cls.core.api_packages import make_callable

make_callable(__name__)
