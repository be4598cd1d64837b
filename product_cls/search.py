"""Forwards ``python -m product_cls.search``, the former name of ``python -m product_cls.tune``."""

from product_cls.core.cli import guard
from product_cls.tune.__main__ import main

if __name__ == "__main__":
    guard(main)
