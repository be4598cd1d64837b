"""What a sweep was to run: its factors and their values, as Hydra read them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from product_cls.core.errors import UserError, reason
from product_cls.runs.fingerprint import UNFINGERPRINTED
from product_cls.runs.folder import RunFolder

REPLICATES = ("seed", "fold")  # what tells runs of one setting apart

Cell = tuple[str, ...]  # a value for each factor, as text


@dataclass(frozen=True)
class Grid:
    """Factors of a sweep and what was planned.

    Attributes:
        factors: swept keys in the sweep's order, without ``REPLICATES``.
        rows: planned settings: a value for each factor, as text, in the sweep's order.
        replicates: planned (seed, fold); "" where not swept.
        fixed: overrides that all jobs share, as typed.
    """

    factors: tuple[str, ...]
    rows: tuple[Cell, ...]
    replicates: tuple[Cell, ...]
    fixed: tuple[str, ...] = ()


def as_text(value: Any) -> str:
    """A value as one would type it: ``[mixup,cutmix]``, ``null``, ``0.001``."""
    if isinstance(value, QuotedString):
        return str(value.text)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{as_text(k)}:{as_text(v)}' for k, v in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def read_grid(root: Path) -> Grid | None:
    """The plan that Hydra left in ``multirun.yaml``; None where there is none to be read.

    Raises:
        UserError: the file is there and cannot be understood.
    """
    file = root / "multirun.yaml"
    if not file.is_file():
        return None
    try:
        hydra = yaml.safe_load(file.read_text())["hydra"]
        params = hydra["sweeper"].get("params") or {}
        typed = [f"{k}={_typed(v)}" for k, v in params.items()] + list(hydra["overrides"]["task"])
        overrides = OverridesParser.create().parse_overrides(typed)
        # What is typed replaces what the sweep's file says and keeps its place, as in Hydra.
        by_key = {override.get_key_element(): override for override in overrides}
        swept = {k: _values(o) for k, o in by_key.items() if o.is_sweep_override()}
    except (OSError, yaml.YAMLError, HydraException, KeyError, TypeError, AttributeError) as error:
        why = reason(error)
        raise UserError(
            f"{file} cannot be understood ({type(error).__name__}: {why}); without that file the "
            "report goes by the runs it finds."
        ) from None
    if any(values is None for values in swept.values()):  # intervals: known once they are drawn
        return None
    factors = tuple(key for key in swept if key not in REPLICATES)
    return Grid(
        factors,
        tuple(itertools.product(*(swept[key] or () for key in factors))),
        tuple(itertools.product(*(swept.get(key) or ("",) for key in REPLICATES))),
        tuple(o.input_line or "" for k, o in by_key.items() if k not in swept),
    )


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else as_text(value)


def _values(override: Override) -> tuple[str, ...] | None:
    """The values of a swept key; None for what cannot be listed without Hydra's config folder."""
    if not override.is_discrete_sweep():
        return None
    try:
        return tuple(map(as_text, override.sweep_iterator()))
    except HydraException:  # glob(*)
        return None


@dataclass(frozen=True)
class Found:
    """A run folder and the settings it tells.

    Attributes:
        settings: the resolved config, flattened (``optimizer.lr``), values as text.
        typed: its overrides (``.hydra/overrides.yaml``); None where they are not known.
    """

    folder: RunFolder
    settings: dict[str, str]
    typed: dict[str, str] | None

    def value(self, key: str) -> str:
        """Of a factor; "" where the run does not tell."""
        typed = self.typed or {}
        return typed.get(key, self.settings.get(key.lstrip("+"), ""))


def read_found(folder: RunFolder) -> Found:
    """The settings of a run; empty where it died before it had any."""
    try:
        config = yaml.safe_load(folder.config_file.read_text())
        settings = dict(_flat(config, ""))
    except (OSError, yaml.YAMLError, AttributeError):
        settings = {}
    try:
        lines = yaml.safe_load((folder.path / ".hydra" / "overrides.yaml").read_text())
        parsed = OverridesParser.create().parse_overrides(lines)
        typed = {o.get_key_element(): as_text(o.value()) for o in parsed}
    except (OSError, yaml.YAMLError, HydraException, TypeError):
        typed = None
    return Found(folder, settings, typed)


def _flat(config: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", as_text(value)


def guess_grid(found: Sequence[Found]) -> Grid:
    """A plan from the runs alone: keys that differ are factors, all that is there was planned."""
    if all(run.typed is not None for run in found):
        tables = [run.typed or {} for run in found]
    else:
        tables = [run.settings for run in found if run.settings]
    factors = tuple(
        key for key in differing(tables) if key not in REPLICATES and "hydra" not in key
    )
    rows = dict.fromkeys(tuple(run.value(key) for key in factors) for run in found)
    return Grid(factors, tuple(rows), tuple(dict.fromkeys(map(replicate_of, found))))


def replicate_of(run: Found) -> Cell:
    """(seed, fold) of a run."""
    return tuple(run.value(key) for key in REPLICATES)


def differing(tables: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Keys that are not the same in all tables: key -> value -> in how many.

    Keys that do not change what a run computes are left out; "" stands for a missing key.
    """
    keys = dict.fromkeys(key for table in tables for key in table)
    result: dict[str, dict[str, int]] = {}
    for key in keys:
        if any(key == name or key.startswith(f"{name}.") for name in UNFINGERPRINTED):
            continue
        counts: dict[str, int] = {}
        for table in tables:
            value = table.get(key, "")
            counts[value] = counts.get(value, 0) + 1
        if len(counts) > 1:
            result[key] = counts
    return result
