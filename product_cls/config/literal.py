"""Text as a config that says what it says: nothing in it is interpolated."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Backslashes before an interpolation count in OmegaConf's grammar, others do not.
INTERPOLATION = re.compile(r"(\\*)\$\{")


def literal(text: str) -> str:
    r"""The text, escaped so that OmegaConf gives it back: ``${a}`` becomes ``\${a}``."""
    return INTERPOLATION.sub(r"\1\1\\${", text)


def literal_config(content: Mapping[str, Any]) -> DictConfig:
    """A config of plain values, read from a file that may come from anyone.

    Args:
        content: plain containers; ``${oc.env:TOKEN}`` in them stays the text that it is.
    """
    return OmegaConf.create(_escaped(content))


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return literal(value) if isinstance(value, str) else value
