"""Specs of a task of each kind, as predictions files hold them."""

from typing import Any

SINGLE: dict[str, Any] = {"name": "single_label", "label": "label", "classes": ["cola", "milk"]}
HEADS: dict[str, Any] = {
    "name": "multi_head",
    "heads": {
        "brand": {"column": "brand", "classes": ["cola", "milk"]},
        "size": {"column": "size", "classes": ["big", "small"]},
    },
}
LABELS: dict[str, Any] = {"name": "multi_label", "labels": ["cola", "milk"]}
