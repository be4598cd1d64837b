"""The members of an ensemble: finished runs with their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions
from product_cls.inference.truth import Truth, check_one_truth
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder, find_runs

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Member:
    """A finished run.

    Attributes:
        name: name of the run's folder.
        group: name shared by the runs that differ only by fold and seed.
        splits: predictions by split; their scores stay in the files.
        gallery: a retrieval run's embeddings of the labelled pictures; None for other runs.
        truth: the labels that the run knew; None for runs of versions that did not keep them.
        folder: the run's folder; None for predictions in memory.
    """

    name: str
    group: str
    splits: dict[str, Predictions]
    gallery: Gallery | None = None
    truth: Truth | None = None
    folder: RunFolder | None = None


def _load_folder(root: Path) -> tuple[list[Member], list[str]]:
    """Finished runs below ``root``, and sentences about the other runs.

    Raises:
        UserError: no run has finished.
    """
    runs, left_out = [], []
    for folder in find_runs(root):
        name = str(folder.path.relative_to(root)) if folder.path != root else folder.path.name
        if shortcoming := folder.shortcoming():
            left_out.append(f"{name} {shortcoming}")
            continue
        try:
            runs.append(_load_run(folder, name))
        except UserError as error:  # one bad folder does not end the ensemble of the others
            left_out.append(f"{name} cannot be used: {str(error).rstrip('.')}")
    if not runs:
        raise UserError(f"No run in {root} can be blended: {'; '.join(left_out)}.")
    return runs, left_out


def _load_run(folder: RunFolder, name: str) -> Member:
    """A finished run.

    Raises:
        UserError: a file that it needs is missing or damaged.
    """
    splits = {
        split: Predictions.load(folder.predictions_file(split), stored=True)
        for split in SPLITS
        if folder.predictions_file(split).is_file()
    }
    if not splits:
        raise UserError("it has no predictions files.")
    gallery = folder.predictions_file("gallery")
    embedded = Gallery.load(gallery) if gallery.is_file() else None
    truth = Truth.load(folder.labels_file) if folder.labels_file.is_file() else None
    if next(iter(splits.values())).make_task().needs_gallery and embedded is None:
        raise UserError(f"it has no {gallery.name}, which a run with a gallery needs.")
    return Member(name, _group(folder), splits, embedded, truth, folder)


def load_members(roots: Sequence[Path]) -> tuple[list[Member], list[str]]:
    """Load the finished runs below some folders.

    Returns:
        The runs, and sentences (without a full stop) about the runs that are left out. With several
        folders, names and groups of runs include their folder.

    Raises:
        UserError: a folder has no finished run, or is listed twice; or two runs know different
            labels of a picture.
    """
    runs, left_out = _load_folders(roots)
    for members in _by_classes(runs):
        known = [(run.name, run.truth) for run in members if run.truth is not None]
        check_one_truth(known, next(iter(members[0].splits.values())).make_task())
    return runs, left_out


def _load_folders(roots: Sequence[Path]) -> tuple[list[Member], list[str]]:
    if len(roots) == 1:
        return _load_folder(roots[0])
    if len(set(roots)) < len(roots):
        raise UserError(f"runs names a folder twice: {', '.join(map(str, roots))}.")
    runs, left_out = [], []
    for root in roots:
        members, sentences = _load_folder(root)
        runs += [_named_with(root, run) for run in members]
        left_out += [f"{root}: {sentence}" for sentence in sentences]
    return runs, left_out


def _by_classes(runs: Sequence[Member]) -> list[list[Member]]:
    """The runs whose targets have the same meaning: by classes and number of labels a picture."""
    alike: dict[tuple[object, ...], list[Member]] = {}
    for run in runs:
        first = next(iter(run.splits.values()))
        alike.setdefault((first.target.shape[1:], *first.classes.tolist()), []).append(run)
    return list(alike.values())


def by_group(runs: Sequence[Member]) -> dict[str, list[Member]]:
    """Group name -> its runs, sorted by name."""
    names = sorted({run.group for run in runs})
    return {name: [run for run in runs if run.group == name] for name in names}


def _named_with(root: Path, run: Member) -> Member:
    """A run with its folder in its name and group."""
    if RunFolder(root).status_file.is_file():  # the folder is the run
        return replace(run, name=str(root))
    return replace(run, name=f"{root}/{run.name}", group=f"{root.name}: {run.group}")


def _group(folder: RunFolder) -> str:
    """The run's backbone, and its overrides other than fold and seed."""
    words = [str(folder.config()["model"]["backbone"])]
    for word in folder.path.name.split(","):
        if not word.startswith(("fold=", "seed=", "model=", "default")):
            words.append(word)
    return ",".join(words)
