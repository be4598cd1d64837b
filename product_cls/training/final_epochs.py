"""Number of epochs of a final model: the mean of the folds' best epochs.

A run with ``fold=all`` has no validation to select an epoch by. It trains on every picture with the
settings of the fold runs, and its schedule spans exactly that mean number of epochs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from product_cls.core.errors import UserError
from product_cls.core.nested import flatten
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder, find_runs

# Settings that may differ: the pictures held out, the random seed, and test-time augmentation.
FREE = ("fold", "folds", "seed", "tta")

SHOWN = 3  # differences named in a message


def epochs_from_folds(config: Mapping[str, Any], root: Path) -> tuple[int, str]:
    """The rounded mean of the best epochs of the folds that were trained with these settings.

    Args:
        config: of the final run, resolved, plain containers; ``trainer.max_epochs`` must be as in
            the command that trained the folds.
        root: folder of a sweep; runs with other settings are ignored.

    Returns:
        The number of epochs, and a sentence that explains it.

    Raises:
        UserError: no run there holds out a fold, none has these settings, or a run with these
            settings is unfinished.
    """
    where = f"epochs_from={root}"
    try:
        folders = find_runs(root)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    folds = [(run, settings) for run in folders if (settings := _fold_settings(run)) is not None]
    if not folds:
        raise UserError(f"{where}: none of the {len(folders)} runs there holds out a fold.")
    here = _settings(config)
    alike = [run for run, settings in folds if settings == here]
    if not alike:
        nearest, settings = min(folds, key=lambda pair: len(_differences(pair[1], here)))
        raise UserError(
            f"{where}: none of the {len(folds)} runs of folds there has the settings of this run; "
            f"the closest, '{nearest.path.name}', differs in {_describe(settings, here)}."
        )
    unfinished = [f"{run.path.name} {why}" for run in alike if (why := run.shortcoming())]
    if unfinished:
        raise UserError(
            f"{where}: {len(unfinished)} of {len(alike)} runs of folds with this run's settings "
            f"cannot be used: {'; '.join(unfinished)}."
        )
    best = [int(run.metrics()["best_epoch"]) for run in alike]
    epochs = int(sum(best) / len(best) + 0.5)  # round() would round 2.5 to 2
    ignored = len(folds) - len(alike)
    return epochs, (
        f"trainer.max_epochs={epochs}: mean of the best epochs {', '.join(map(str, best))} of "
        f"{len(best)} runs of folds in {root}"
        f"{f'; {ignored} with other settings ignored' if ignored else ''}."
    )


def _fold_settings(folder: RunFolder) -> dict[str, Any] | None:
    """Settings of a run that holds out a fold; None if it does not, or has never started."""
    try:
        config = folder.config()
    except UserError:
        return None
    return None if config["fold"] == "all" else _settings(config)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of the settings that must be equal for the folds and the final run."""
    shared = {key: value for key, value in fingerprinted(config).items() if key not in FREE}
    # fold=all refuses callbacks that watch validation, such as early stopping.
    callbacks = shared["callbacks"].items()
    shared["callbacks"] = {k: node for k, node in callbacks if "monitor" not in node}
    return flatten(shared)


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [key for key in {**there, **here} if there.get(key) != here.get(key)]


def _describe(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    keys = _differences(there, here)
    shown = [f"{key} ({there.get(key)}, here {here.get(key)})" for key in keys[:SHOWN]]
    more = [f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return ", ".join([*shown, *more])
