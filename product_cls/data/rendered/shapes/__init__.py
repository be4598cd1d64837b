"""Solids of products by (shape, form, size).

To add a solid: write a class with the members of `base.Shape`, add it to its module's table, and
add artwork for new panel names (`panels/`).
"""

from product_cls.data.rendered.shapes.base import Panel, Shape
from product_cls.data.rendered.shapes.box import BOXES
from product_cls.data.rendered.shapes.carton import CARTONS
from product_cls.data.rendered.shapes.pouch import POUCHES
from product_cls.data.rendered.shapes.turned import BOTTLES, CANS, CUPS

FORMS: dict[tuple[str, str, str], Shape] = {
    **BOXES,
    **CARTONS,
    **POUCHES,
    **CANS,
    **BOTTLES,
    **CUPS,
}

__all__ = ["FORMS", "Panel", "Shape"]
