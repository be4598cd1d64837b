"""Finished runs as one system: softmax runs vote, retrieval runs are joined by their features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder, find_runs

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Member:
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
    gallery: Gallery | None = None


def _load_folder(root: Path) -> tuple[list[Member], list[str]]:
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
            split: Predictions.load(folder.predictions_file(split), stored=True)
            for split in ("val", "test")
            if folder.predictions_file(split).is_file()
        }
        gallery = folder.predictions_file("gallery")
        embedded = Gallery.load(gallery) if gallery.is_file() else None
        runs.append(Member(name, _group(folder), splits, embedded))
    if not runs:
        raise UserError(f"No run in {root} can be blended: {'; '.join(left_out)}.")
    return runs, left_out


def load_members(roots: Sequence[Path]) -> tuple[list[Member], list[str]]:
    """``_load_folder`` of several folders, whose runs are then named with their folder.

    Raises:
        UserError: none of a folder's runs has finished, or a folder is given twice.
    """
    if len(roots) == 1:
        return _load_folder(roots[0])
    if len(set(roots)) < len(roots):
        raise UserError(f"runs names a folder twice: {', '.join(map(str, roots))}.")
    runs, left_out = [], []
    for root in roots:
        found, sentences = _load_folder(root)
        runs += [_named_with(root, run) for run in found]
        left_out += [f"{root}: {sentence}" for sentence in sentences]
    return runs, left_out


def by_group(runs: Sequence[Member]) -> dict[str, list[Member]]:
    """The runs of each group, groups by name."""
    names = sorted({run.group for run in runs})
    return {name: [run for run in runs if run.group == name] for name in names}


def _named_with(root: Path, run: Member) -> Member:
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
