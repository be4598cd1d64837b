"""Artwork of each panel, by panel name (`shapes.base.Panel`)."""

from collections.abc import Callable

from PIL import Image

from product_cls.data.rendered.catalogue import Product
from product_cls.data.rendered.panels import bottle, box, can, carton, cup, pouch

PANELS: dict[str, Callable[[tuple[int, int], Product], Image.Image]] = {
    **box.PANELS,
    **carton.PANELS,
    **pouch.PANELS,
    **can.PANELS,
    **bottle.PANELS,
    **cup.PANELS,
}
