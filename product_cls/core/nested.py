"""Nested mappings as flat ones."""

from collections.abc import Mapping
from typing import Any


def flatten(
    mapping: Mapping[str, Any], prefix: str = "", *, separator: str = "."
) -> dict[str, Any]:
    """``{"a": {"b": 1}, "c": {}}`` as ``{"a.b": 1, "c": {}}``: dotted key -> value.

    Empty mappings are kept as values, and lists are not entered.

    Args:
        mapping: with text keys at every level.
        prefix: put before each key.
        separator: between the keys of two levels.
    """
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}{separator}", separator=separator)
        else:
            flat[f"{prefix}{key}"] = value
    return flat
