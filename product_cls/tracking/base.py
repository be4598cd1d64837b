"""The interface of trackers, and configs in the form that trackers take."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from product_cls.core.errors import without_login
from product_cls.core.nested import flatten
from product_cls.runs.folder import RunFolder

if TYPE_CHECKING:  # runs without a tracker do not need the imports of findings
    from product_cls.tracking.findings import Findings


class Tracker(ABC):
    """A Lightning logger that also takes a run's config, results and files."""

    @abstractmethod
    def begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        """Learn which run this is; called before anything is logged.

        Args:
            folder: the run's folder, whose status holds the tracking id.
            config: the run's config, resolved and without logins.
        """

    @abstractmethod
    def publish(self, folder: RunFolder, findings: "Findings", folds: "pd.Series[int]") -> None:
        """Publish the results of a finished run, and its files if the tracker stores files.

        Args:
            folder: the run's folder.
            findings: the results.
            folds: int64, index ``id``: the fold that holds each sample out; -1 for none.
        """


def without_logins(config: Any) -> Any:
    """A copy of a config in plain containers, without the logins in its addresses."""
    if isinstance(config, Mapping):
        return {key: without_logins(value) for key, value in config.items()}
    if isinstance(config, list):
        return [without_logins(value) for value in config]
    return without_login(config) if isinstance(config, str) else config


def parameters(config: Mapping[str, Any]) -> dict[str, int | float | str]:
    """A config as flat parameters, ``{"optimizer.lr": 0.1}``: numbers, and all else as text."""
    return {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in flatten(config).items()
    }
