"""Finished runs as one system: softmax runs vote, retrieval runs are joined by their features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from product_cls.blend import blend_predictions, out_of_fold
from product_cls.errors import UserError
from product_cls.predictions import Predictions
from product_cls.retrieval.features import Features
from product_cls.retrieval.joint import (
    RetrievalRun,
    blend_share,
    join_out_of_fold,
    join_runs,
    tune_share,
)
from product_cls.runs import RunFolder, find_runs
from product_cls.weights import check_weights

SPLITS = ("val", "test")
HOW = {"val": out_of_fold, "test": blend_predictions}


@dataclass(frozen=True)
class Run:
    """A finished run as the ensemble sees it.

    Attributes:
        name: its folder's name.
        group: what it shares with the runs that differ from it only by the fold and seed.
        splits: its predictions by split.
        gallery: of a retrieval run, its embeddings of the pictures whose label is known; else None.
    """

    name: str
    group: str
    splits: dict[str, Predictions]
    gallery: Features | None = None


def load_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Finished runs below ``root``, and sentences about those that are not.

    Raises:
        UserError: none has finished.
    """
    runs, left_out = [], []
    for folder in find_runs(root):
        name = str(folder.path.relative_to(root)) if folder.path != root else folder.path.name
        if shortcoming := folder.shortcoming():
            left_out.append(f"{name} {shortcoming}")
            continue
        splits = {
            split: Predictions.load(folder.predictions_file(split), mapped=True)
            for split in ("val", "test")
            if folder.predictions_file(split).is_file()
        }
        gallery = folder.predictions_file("gallery")
        embedded = Features.load(gallery) if gallery.is_file() else None
        runs.append(Run(name, _group(folder), splits, embedded))
    if not runs:
        raise UserError(f"No run in {root} can be blended: {'; '.join(left_out)}.")
    return runs, left_out


def load_all_runs(roots: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """``load_runs`` of several folders, whose runs are then named with their folder.

    Raises:
        UserError: none of a folder's runs has finished, or a folder is given twice.
    """
    if len(roots) == 1:
        return load_runs(roots[0])
    if len(set(roots)) < len(roots):
        raise UserError(f"runs names a folder twice: {', '.join(map(str, roots))}.")
    runs, left_out = [], []
    for root in roots:
        found, sentences = load_runs(root)
        runs += [_named_with(root, run) for run in found]
        left_out += [f"{root}: {sentence}" for sentence in sentences]
    return runs, left_out


def by_group(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each group, groups by name."""
    names = sorted({run.group for run in runs})
    return {name: [run for run in runs if run.group == name] for name in names}


def _named_with(root: Path, run: Run) -> Run:
    """A run with the name and group it has among those of other folders."""
    if RunFolder(root).status_file.is_file():  # the folder is the run
        return replace(run, name=str(root))
    return replace(run, name=f"{root}/{run.name}", group=f"{root.name}: {run.group}")


def _group(folder: RunFolder) -> str:
    """What a run is besides its fold and seed, in few words."""
    config = yaml.safe_load(folder.config_file.read_text())
    words = [config["model"]["backbone"]]
    for word in folder.path.name.split(","):
        if not word.startswith(("fold=", "seed=", "model=", "default")):
            words.append(word)
    return ",".join(words)


@dataclass(frozen=True)
class Blended:
    """Several runs as one system.

    Attributes:
        splits: its predictions, by split.
        share: of the retrieval runs where there are softmax runs, too; else None.
        source: where the share comes from, in words.
    """

    splits: dict[str, Predictions]
    share: float | None = None
    source: str = ""


def blend_runs(
    runs: Sequence[Run],
    method: str,
    weights: Sequence[float] | None = None,
    share: float | None = None,
    device: torch.device | None = None,
) -> Blended:
    """The runs as one system: softmax runs vote, retrieval runs are joined by their features.

    Args:
        runs: finished runs.
        method: of the vote, see ``blend``.
        weights: one a run; runs of weight 0 are left out.
        share: of the retrieval runs in a joint system, 0 to 1; None tunes it on the pictures that
            both kinds of runs held out, without which (fold=all) both count one half.
        device: where retrieval runs are searched; the CPU where None.

    Raises:
        UserError: weights or a share that do not fit, or runs that cannot be blended.
    """
    if share is not None and not 0 <= share <= 1:
        raise UserError(f"share={share}; allowed: 0 to 1, or null to tune it.")
    chosen = check_weights(weights, len(runs), [run.name for run in runs]).tolist()
    pairs = [(run, weight) for run, weight in zip(runs, chosen, strict=True) if weight > 0]
    softmax = {s: _vote([p for p in pairs if p[0].gallery is None], s, method) for s in SPLITS}
    retrieval = {
        s: _join([p for p in pairs if p[0].gallery is not None], s, device) for s in SPLITS
    }
    if not any(softmax.values()) or not any(retrieval.values()):
        only = softmax if any(softmax.values()) else retrieval
        return Blended({split: part for split, part in only.items() if part is not None})
    source, held_out = "as given", _held_out_by_both(softmax["val"], retrieval["val"])
    if share is None and held_out[0] is not None and held_out[1] is not None:
        share = tune_share(held_out[0], held_out[1])[0]
        source = f"tuned on {len(held_out[0].id)} held-out pictures"
    elif share is None:
        share, source = 0.5, "nothing to tune it on"
    parts = {"val": held_out, "test": (softmax["test"], retrieval["test"])}
    splits = {
        split: blend_share(one, other, share)
        for split, (one, other) in parts.items()
        if one is not None and other is not None
    }
    return Blended(splits, share, source)


def _held_out_by_both(
    one: Predictions | None, other: Predictions | None
) -> tuple[Predictions | None, Predictions | None]:
    """The pictures that both systems held out: folds may be missing here or there."""
    if one is None or other is None:
        return None, None
    parts = one.rows(np.isin(one.id, other.id)), other.rows(np.isin(other.id, one.id))
    return parts if len(parts[0].id) else (None, None)


def _having(pairs: Sequence[tuple[Run, float]], split: str) -> list[tuple[Run, float]]:
    """Those with predictions of the split: fold=all leaves no validation part.

    Raises:
        UserError: some have predictions of the test part, and some have none.
    """
    having = [pair for pair in pairs if split in pair[0].splits]
    if split == "test" and 0 < len(having) < len(pairs):
        lacking = next(run.name for run, _ in pairs if split not in run.splits)
        raise UserError(f"Run '{lacking}' has no predictions of the test part, others have.")
    return having


def _vote(pairs: Sequence[tuple[Run, float]], split: str, method: str) -> Predictions | None:
    """Softmax runs' predictions as one; None where there are none."""
    if not (having := _having(pairs, split)):
        return None
    parts = [(run.name, run.splits[split]) for run, _ in having]
    return HOW[split](parts, method, [weight for _, weight in having])


def _join(
    pairs: Sequence[tuple[Run, float]], split: str, device: torch.device | None
) -> Predictions | None:
    """Retrieval runs' predictions as one; None where there are none."""
    if not (having := _having(pairs, split)):
        return None
    weights = [weight for _, weight in having]
    runs = [RetrievalRun(r.name, r.splits, r.gallery) for r, _ in having if r.gallery is not None]
    if split == "test":
        return join_runs(runs, split, weights, device)
    return join_out_of_fold(runs, weights, device)
