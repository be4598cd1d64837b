"""The interface of a tracker, and results as trackers take them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from product_cls.core.errors import without_login
from product_cls.runs.folder import RunFolder

if TYPE_CHECKING:  # a job without trackers need not import what finds
    from product_cls.tracking.findings import Findings


class Tracker(ABC):
    """What a Lightning logger is, besides, to be told more than metrics by step."""

    @abstractmethod
    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        """Learn which run this is, before anything is logged.

        Args:
            folder: has its tracking id.
            config: of the run, without logins.
        """

    @abstractmethod
    def publish(self, folder: RunFolder, findings: "Findings", folds: "pd.Series[int]") -> None:
        """Show what a run has come to, and keep its files where the tracker keeps files."""


def without_logins(config: Any) -> Any:
    """A config's containers and values, without logins in addresses."""
    if isinstance(config, Mapping):
        return {key: without_logins(value) for key, value in config.items()}
    if isinstance(config, list):
        return [without_logins(value) for value in config]
    return without_login(config) if isinstance(config, str) else config


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; values that are not numbers or text become text."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            kept = isinstance(value, int | float | str)
            result[f"{prefix}{key}"] = value if kept else str(value)
    return result
