"""How long a final model trains, without validation to tell: as long as the folds' best epochs.

A run of ``fold=all`` learns from every picture with the settings that folds were tried with; the
mean of their best epochs is its number of epochs, and its schedule runs over just those.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from product_cls.core.errors import UserError
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder, find_runs

# What may differ: which pictures are held out, chance, and what is averaged after training.
FREE = ("fold", "folds", "seed", "tta")


SHOWN = 3  # differences named in a message


def epochs_from_folds(config: Mapping[str, Any], root: Path) -> tuple[int, str]:
    """The mean, rounded, of the best epochs of the folds that were trained with these settings.

    Args:
        config: of the final run, resolved, plain containers; its ``trainer.max_epochs`` is that of
            the folds, as in the command that trained them.
        root: folder of a sweep; of its runs, those with other settings are left aside.

    Returns:
        The number of epochs, and a sentence that says where it comes from.

    Raises:
        UserError: no run there holds out a fold, has these settings, or not all that have are
            finished.
    """
    where = f"epochs_from={root}"
    try:
        folders = find_runs(root)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    folds = [(one, settings) for one in folders if (settings := _fold_settings(one)) is not None]
    if not folds:
        raise UserError(f"{where}: none of the {len(folders)} runs there holds out a fold.")
    here = _settings(config)
    alike = [one for one, settings in folds if settings == here]
    if not alike:
        nearest, settings = min(folds, key=lambda pair: len(_differences(pair[1], here)))
        raise UserError(
            f"{where}: none of the {len(folds)} runs of folds there has this run's settings; "
            f"'{nearest.path.name}' comes nearest, with other {_named(settings, here)}."
        )
    unfinished = [f"{one.path.name} {why}" for one in alike if (why := one.shortcoming())]
    if unfinished:
        raise UserError(
            f"{where}: of {len(alike)} runs of folds with this run's settings {len(unfinished)} "
            f"cannot be used: {'; '.join(unfinished)}."
        )
    best = [int(one.metrics()["best_epoch"]) for one in alike]
    epochs = int(sum(best) / len(best) + 0.5)  # round() would take 2.5 to 2
    aside = len(folds) - len(alike)
    return epochs, (
        f"trainer.max_epochs={epochs}: mean of the best epochs {', '.join(map(str, best))} of "
        f"{len(best)} runs of folds in {root}"
        f"{f'; {aside} with other settings left aside' if aside else ''}."
    )


def _fold_settings(folder: RunFolder) -> dict[str, Any] | None:
    """Settings of a run that holds out a fold; None of one that does not, or never began."""
    try:
        config = yaml.safe_load(folder.config_file.read_text())
    except (OSError, yaml.YAMLError):
        return None
    return None if config["fold"] == "all" else _settings(config)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value, of what makes a network what it is, but for the pictures held out."""
    kept = {key: value for key, value in fingerprinted(config).items() if key not in FREE}
    # What watches validation, as early stopping does, fold=all refuses.
    kept["callbacks"] = {k: node for k, node in kept["callbacks"].items() if "monitor" not in node}
    return _flat(kept, "")


def _flat(node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [key for key in {**there, **here} if there.get(key) != here.get(key)]


def _named(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    keys = _differences(there, here)
    shown = [f"{key} ({there.get(key)}, here {here.get(key)})" for key in keys[:SHOWN]]
    more = [f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return ", ".join([*shown, *more])
