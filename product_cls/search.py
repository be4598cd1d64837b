"""Forwards ``python -m product_cls.search``, the former name of ``python -m product_cls.tune``."""

import sys

from product_cls.core.cli import guard
from product_cls.tune.__main__ import main

if __name__ == "__main__":
    print(
        "product_cls.search is now product_cls.tune: python -m product_cls.tune, or product-cls "
        "tune. (product-cls search looks up pictures in an index.)",
        file=sys.stderr,
    )
    guard(main)
