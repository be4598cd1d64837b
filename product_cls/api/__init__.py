"""The Python API, for notebooks and services; ``import product_cls`` exports it.

    model = product_cls.load("multirun/quickstart")
    model.predict(["a.jpg"])

Wrong arguments and settings raise ``UserError``, a ``ValueError`` with a one-sentence message;
nothing exits the interpreter.
"""

from product_cls.api.model import Model, load
from product_cls.api.results import Run, ensemble, read_predictions, runs
from product_cls.api.training import compose, train
from product_cls.core.errors import UserError

__all__ = [
    "Model",
    "Run",
    "UserError",
    "compose",
    "ensemble",
    "load",
    "read_predictions",
    "runs",
    "train",
]
