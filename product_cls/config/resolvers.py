"""OmegaConf resolvers for the config files. Imports nothing heavy: Hydra needs them first."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from product_cls.core.names import shown

LONGEST_DIRNAME = 200  # bytes; file systems allow 255 for a name


QUOTE = re.compile(r'(?<!\\)"')  # not a quotation mark that a backslash escapes


def run_dirname(overrides: str = "") -> str:
    """Folder name for a run's overrides: readable, a single path component, never empty.

    Quotes that were put around text (``name="2024_10"``) are left out, control characters are
    escaped, and interpolations stay as typed: their values, such as passwords of the environment,
    do not belong into names.

    Args:
        overrides: joined by commas; "" for those of the running command.
    """
    if not overrides and HydraConfig.initialized():
        node = OmegaConf.to_container(HydraConfig.get().job, resolve=False)
        overrides = str(node.get("override_dirname") or "") if isinstance(node, dict) else ""
    text = QUOTE.sub("", overrides).replace('\\"', '"').replace("${", "{")
    name = shown(text).replace("/", "_") or "default"
    if len(name.encode()) <= LONGEST_DIRNAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[:LONGEST_DIRNAME].decode(errors='ignore')}-{mark}"


def rendered_name(products: int, size: int, difficulty: str, seed: int, *knobs: Any) -> str:
    """Name of a rendered data set.

    Args:
        products: number of products.
        size: side of the pictures in pixels.
        difficulty: its name.
        seed: seed of the rendering.
        knobs: rolls, twins, items, light and jitter, and lists of the training and the test
            pitches; None, or one left out, keeps the usual value.
    """
    names = ("rolls", "twins", "items", "light", "jitter", "pitches", "test_pitches")
    changed = [
        f"-{name}{'_'.join(f'{v:g}' for v in (value if isinstance(value, Sequence) else [value]))}"
        for name, value in zip(names, knobs, strict=False)
        if value is not None
    ]
    return f"rendered-{products}x{size}px-{difficulty}{''.join(changed)}-seed{seed}"


def register_resolvers() -> None:
    """Register the functions above, so that config files can call them."""
    for resolver in (run_dirname, rendered_name):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
