"""Positions of the parts of a front, as fractions of its size.

Bands (in the accent or base colour) run around the whole label of a can, bottle or cup. The other
parts are repeated on each front.
"""

from product_cls.data.rendered.printing import Area

LAYOUTS: dict[str, tuple[dict[str, Area], ...]] = {
    "tall": (
        {
            "base band": (0, 0, 1, 0.24), "brand": (0.08, 0.03, 0.92, 0.16),
            "brand_ko": (0.3, 0.16, 0.7, 0.22), "korean": (0.06, 0.27, 0.94, 0.42),
            "english": (0.08, 0.42, 0.92, 0.48), "picture": (0.14, 0.48, 0.86, 0.87),
            "ribbon": (0.0, 0.88, 1, 0.97),
        },
        {
            "accent band": (0, 0.6, 1, 0.86), "brand": (0.1, 0.05, 0.9, 0.15),
            "brand_ko": (0.3, 0.15, 0.7, 0.2), "picture": (0.16, 0.2, 0.84, 0.58),
            "korean": (0.06, 0.62, 0.94, 0.77), "english": (0.08, 0.78, 0.92, 0.84),
            "ribbon": (0.2, 0.885, 0.8, 0.96),
        },
        {
            "base band": (0, 0.72, 1, 1), "korean": (0.06, 0.04, 0.94, 0.2),
            "english": (0.08, 0.2, 0.92, 0.26), "ribbon": (0.12, 0.275, 0.88, 0.345),
            "picture": (0.12, 0.35, 0.88, 0.76), "brand": (0.07, 0.79, 0.93, 0.91),
            "brand_ko": (0.3, 0.915, 0.7, 0.97),
        },
    ),
    "wide": (
        {
            "base band": (0, 0, 1, 0.28), "brand": (0.05, 0.05, 0.62, 0.22),
            "brand_ko": (0.66, 0.09, 0.95, 0.2), "korean": (0.04, 0.33, 0.57, 0.6),
            "english": (0.04, 0.61, 0.57, 0.71), "ribbon": (0.04, 0.76, 0.5, 0.9),
            "picture": (0.58, 0.26, 0.98, 0.96),
        },
        {
            "accent band": (0, 0.7, 1, 1), "picture": (0.02, 0.06, 0.44, 0.8),
            "brand": (0.46, 0.06, 0.96, 0.24), "brand_ko": (0.56, 0.25, 0.86, 0.34),
            "korean": (0.45, 0.38, 0.97, 0.66), "english": (0.45, 0.74, 0.97, 0.84),
            "ribbon": (0.55, 0.86, 0.87, 0.97),
        },
    ),
}  # fmt: skip
