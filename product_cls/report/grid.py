"""The plan of a sweep: its factors and their values, as Hydra parsed them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from product_cls.core.documents import read_yaml
from product_cls.core.errors import UserError, reason
from product_cls.core.nested import flatten
from product_cls.runs.fingerprint import UNFINGERPRINTED
from product_cls.runs.folder import RunFolder

MOST_JOBS = 100_000  # of a sweep: range(0,1e9) would fill the memory
REPLICATES = ("seed", "fold")  # keys that distinguish the runs of one setting

FactorValues = tuple[str, ...]  # the value of each factor (or of each replicate key), as text


@dataclass(frozen=True)
class Grid:
    """The planned jobs of a sweep: every row with every replicate.

    Attributes:
        factors: swept keys in the order of the sweep, without ``REPLICATES``.
        rows: planned settings in the order of the sweep, a value for each factor.
        replicates: planned (seed, fold); "" for a key that is not swept.
        fixed: overrides that all jobs share, as typed.
    """

    factors: tuple[str, ...]
    rows: tuple[FactorValues, ...]
    replicates: tuple[FactorValues, ...]
    fixed: tuple[str, ...] = ()


def as_text(value: Any) -> str:
    """A value as a user would type it: ``[mixup,cutmix]``, ``null``, ``0.001``."""
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
    """The plan in ``multirun.yaml``, which Hydra leaves in the sweep's folder.

    Returns:
        None if there is no such file, or if it does not list the values of a factor (intervals,
        ``glob``).

    Raises:
        UserError: the file cannot be parsed.
    """
    file = root / "multirun.yaml"
    if not file.is_file():
        return None
    try:
        hydra = read_yaml(file, dict)["hydra"]
        params = hydra["sweeper"].get("params") or {}
        words = [f"{k}={_word(v)}" for k, v in params.items()] + list(hydra["overrides"]["task"])
        overrides = OverridesParser.create().parse_overrides(words)
        # As in Hydra, a word on the command line replaces the same key of the sweep's file and
        # keeps its place.
        by_key = {override.get_key_element(): override for override in overrides}
        swept = {k: _values(o) for k, o in by_key.items() if o.is_sweep_override()}
        if math.prod(len(values or ()) for values in swept.values()) > MOST_JOBS:
            raise UserError(f"more than {MOST_JOBS} jobs")
    except (UserError, HydraException, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be parsed ({type(error).__name__}: {reason(error)}); remove the file "
            "to report on the runs that exist."
        ) from None
    if any(values is None for values in swept.values()):
        return None
    factors = tuple(key for key in swept if key not in REPLICATES)
    return Grid(
        factors,
        tuple(itertools.product(*(swept[key] or () for key in factors))),
        tuple(itertools.product(*(swept.get(key) or ("",) for key in REPLICATES))),
        tuple(o.input_line or "" for k, o in by_key.items() if k not in swept),
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else as_text(value)


def _values(override: Override) -> tuple[str, ...] | None:
    """The values of a swept key; None if only the runs know them."""
    if not override.is_discrete_sweep():  # an interval, whose values are drawn
        return None
    try:
        return tuple(map(as_text, itertools.islice(override.sweep_iterator(), MOST_JOBS + 1)))
    except HydraException:  # glob(*), which needs Hydra's config folder
        return None


@dataclass(frozen=True)
class RunSettings:
    """A run folder with its settings.

    Attributes:
        settings: the resolved config, flattened (``optimizer.lr``), values as text; empty if the
            run failed before it wrote any.
        overrides: from ``.hydra/overrides.yaml``, values as text; None if that file is missing.
    """

    folder: RunFolder
    settings: dict[str, str]
    overrides: dict[str, str] | None

    @property
    def has_settings(self) -> bool:
        """Whether anything is known about what the run was to do."""
        return bool(self.settings) or self.overrides is not None

    def value(self, key: str) -> str:
        """The value of a factor; "" if the run does not have it."""
        overrides = self.overrides or {}
        return overrides.get(key, self.settings.get(key.lstrip("+"), ""))


def read_settings(folder: RunFolder) -> RunSettings:
    """The settings of a run; a missing or damaged file leaves its part empty."""
    try:
        config = folder.config()
        settings = {key: as_text(value) for key, value in flatten(config).items()}
    except UserError:
        settings = {}
    try:
        parsed = OverridesParser.create().parse_overrides(folder.overrides())
        overrides = {o.get_key_element(): as_text(o.value()) for o in parsed}
    except (UserError, HydraException):
        overrides = None
    return RunSettings(folder, settings, overrides)


def guess_grid(runs: Sequence[RunSettings]) -> Grid:
    """Guess the plan from the runs: keys that differ are factors, and every run was planned."""
    if all(run.overrides is not None for run in runs):
        tables = [run.overrides or {} for run in runs]
    else:
        tables = [run.settings for run in runs if run.settings]
    factors = tuple(
        key for key in differing(tables) if key not in REPLICATES and "hydra" not in key
    )
    rows = dict.fromkeys(tuple(run.value(key) for key in factors) for run in runs)
    return Grid(factors, tuple(rows), tuple(dict.fromkeys(map(replicate_of, runs))))


def replicate_of(run: RunSettings) -> FactorValues:
    """(seed, fold) of a run."""
    return tuple(run.value(key) for key in REPLICATES)


def differing(tables: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """The keys whose values are not the same in all tables, without ``UNFINGERPRINTED``.

    Returns:
        Key -> value -> number of tables with it; "" stands for a missing key.
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
