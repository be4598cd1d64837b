"""Resolvers that config files use. Imports nothing heavy: Hydra needs them before all else."""

import hashlib

from omegaconf import OmegaConf

LONGEST_DIRNAME = 200  # file systems allow 255 bytes a name


def run_dirname(overrides: str) -> str:
    """The folder's name for a run's overrides: readable, a single path component, never empty."""
    name = overrides.replace("/", "_") or "default"
    if len(name.encode()) <= LONGEST_DIRNAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[:LONGEST_DIRNAME].decode(errors='ignore')}-{mark}"


def rendered_name(
    products: int, size: int, difficulty: str, seed: int, *knobs: float | None
) -> str:
    """The name of a rendered set; ``knobs`` (rolls, twins, items, light, jitter) where turned."""
    names = ("rolls", "twins", "items", "light", "jitter")
    turned = [
        f"-{name}{value:g}" for name, value in zip(names, knobs, strict=True) if value is not None
    ]
    return f"rendered-{products}x{size}px-{difficulty}{''.join(turned)}-seed{seed}"


def register_resolvers() -> None:
    """Make the functions above known to config files."""
    for resolver in (run_dirname, rendered_name):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
