"""Synthetic retail products on a turntable, rendered in the competition's layout."""

from product_cls.data.rendered.catalogue import MOST_PRODUCTS, Product, build_catalogue
from product_cls.data.rendered.dataset import read_rendered, render_dataset

__all__ = ["MOST_PRODUCTS", "Product", "build_catalogue", "read_rendered", "render_dataset"]
