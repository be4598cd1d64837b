"""Number of epochs of a final model: the mean of the folds' best epochs.

A run with ``fold=all`` has no validation to select an epoch by. It trains on every picture with the
settings of the fold runs, and its schedule spans exactly that mean number of epochs.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from product_cls.core.errors import UserError
from product_cls.core.nested import flatten
from product_cls.data.folds import STRATIFIED
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder, find_runs

# Settings that may differ: the pictures held out, the random seed, and test-time augmentation.
FREE = ("fold", "folds", "seed", "tta", "adapt", "adapt_share", "adapt_views")

SHOWN = 3  # differences named in a message

log = logging.getLogger(__name__)


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
            settings is unfinished or has failed.
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
    considered = [*alike, *_without_settings(folders, alike)]
    unfinished = [f"{run.path.name} {why}" for run in considered if (why := run.shortcoming())]
    if unfinished:
        raise UserError(
            f"{where}: {len(unfinished)} of {len(considered)} runs of folds with this run's "
            f"settings cannot be used: {'; '.join(unfinished)}."
        )
    if absent := _not_trained(alike):
        log.warning(
            "%s: fold %s of %d was not trained, so the mean is over the other folds.",
            where,
            ", ".join(map(str, absent)),
            len(absent) + len({run.config()["fold"] for run in alike}),
        )
    best = [int(run.metrics()["best_epoch"]) for run in alike]
    epochs = int(sum(best) / len(best) + 0.5)  # round() would round 2.5 to 2
    ignored = len(folds) - len(alike)
    return epochs, (
        f"trainer.max_epochs={epochs}: mean of the best epochs {', '.join(map(str, best))} of "
        f"{len(best)} runs of folds in {root}"
        f"{f'; {ignored} with other settings ignored' if ignored else ''}."
    )


def _without_settings(folders: Sequence[RunFolder], alike: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs that failed before they wrote their settings, but were typed like the runs ``alike``."""
    typed = [words for run in alike if (words := _words(run)) is not None]
    return [run for run in folders if not run.config_file.is_file() and _words(run) in typed]


def _words(run: RunFolder) -> list[str] | None:
    """The run's command without fold and seed, sorted; None if it cannot be read, or is of
    ``fold=all``."""
    try:
        words = run.overrides()
    except UserError:
        return None
    if "fold=all" in words:
        return None
    return sorted(word for word in words if not word.startswith(("fold=", "seed=")))


def _not_trained(runs: Sequence[RunFolder]) -> list[int]:
    """Numbers of the folds that none of the runs holds out, where the settings tell how many there
    are."""
    settings = [run.config() for run in runs]
    if any(str(s["folds"].get("strategy")) not in STRATIFIED for s in settings):
        return []
    if any(s["folds"].get("file") is not None for s in settings):
        return []
    planned = set(range(max(int(s["folds"].get("n_splits", 0)) for s in settings)))
    return sorted(planned - {s["fold"] for s in settings})


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
