"""Search spaces: read from ``conf/search`` as Optuna's distributions, written as overrides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from product_cls.config.compose import group_files
from product_cls.core.documents import parse_yaml
from product_cls.core.errors import UserError, reason

FORMS = "{low: 0.1, high: 1, log: true}, {low: 1, high: 9, step: 2} or a list"


def read_space(name: str) -> dict[str, BaseDistribution]:
    """Read a search space: distributions by key of train.py.

    Args:
        name: a file in ``conf/search``, also of the user's own folder, without its suffix; or the
            path of a YAML file.

    Raises:
        UserError: there is no such file, or the values of a key have an unknown form.
    """
    spaces = group_files("search")
    file = Path(name) if name.endswith((".yaml", ".yml")) else spaces.get(name)
    if file is None:
        raise UserError(f"space={name}; allowed: {', '.join(spaces)}, FILE.yaml.")
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"space={name}: {file} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not YAML: {reason(error)}.") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file} names no key to vary; write, for example, optimizer.lr: {FORMS}.")
    return {str(key): _distribution(file, str(key), value) for key, value in content.items()}


def _distribution(file: Path, key: str, value: Any) -> BaseDistribution:
    try:
        if isinstance(value, list):
            return CategoricalDistribution(value)
        settings = dict(value)
        low, high = settings.pop("low"), settings.pop("high")
        if all(isinstance(x, int) for x in (low, high, settings.get("step", 1))):
            return IntDistribution(low, high, **settings)
        # YAML reads 1e-4 as text and 1.0e-4 as a number.
        return FloatDistribution(float(low), float(high), **settings)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: {key}: {value} is not {FORMS} ({reason(error)}).") from None


def overrides(params: Mapping[str, Any]) -> list[str]:
    """The values of a trial as overrides of train.py."""
    return [f"{key}={override_value(value)}" for key, value in params.items()]


def override_value(value: Any) -> str:
    """A value in Hydra's grammar; numbers have 10 significant digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.10g}" if isinstance(value, float) else str(value)
