"""Finished retrieval runs as the sources of an index."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from product_cls.core.errors import UserError
from product_cls.core.vote_weights import check_weights
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.neighbours.join import join_embeddings
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.gallery import Gallery
from product_cls.retrieval.index.embed import weights_digest
from product_cls.retrieval.index.store import GalleryIndex, Source
from product_cls.retrieval.join_galleries import align_galleries
from product_cls.runs.folder import RunFolder, find_runs


@dataclass(frozen=True)
class EmbeddedRun:
    """A finished retrieval run as an index sees it.

    Attributes:
        source: of weight 1.
        gallery: its two embeddings are the same array, the one that was asked for.
        val: the pictures it held out, of the same kind; None with ``fold=all``.
        vote: of its task.
    """

    source: Source
    gallery: Gallery
    val: Predictions | None
    vote: Vote


def load_embedded_runs(roots: Sequence[Path], *, tta: bool) -> tuple[list[EmbeddedRun], list[str]]:
    """Finished retrieval runs below the folders, and sentences about those that are none.

    Args:
        roots: folders of runs or sweeps; each must have a run to index.
        tta: the embeddings averaged over test-time augmentation, or of the pictures as they are.

    Raises:
        UserError: a folder without such a run, a run found twice, or one that lacks a file.
    """
    found: list[EmbeddedRun] = []
    left_out: list[str] = []
    for root in roots:
        count, reasons = len(found), []
        for folder in find_runs(root):
            name = str(folder.path)
            if any(other.source.name == name for other in found):
                raise UserError(f"runs names {name} twice.")
            if shortcoming := folder.shortcoming():
                reasons.append(f"{name} {shortcoming}")
                continue
            predictor = Predictor.load(folder.best_checkpoint)
            if predictor.task.needs_gallery:
                found.append(embedded_run(folder, predictor, tta=tta))
            else:
                reasons.append(f"{name} is of task={predictor.task.name}, not retrieval")
        if len(found) == count:
            raise UserError(f"No run in {root} can be indexed: {'; '.join(reasons)}.")
        left_out += reasons
    return found, left_out


def embedded_run(folder: RunFolder, predictor: Predictor, *, tta: bool) -> EmbeddedRun:
    """A finished retrieval run with its gallery.

    Args:
        predictor: of the run's best checkpoint.
        tta: take the embeddings averaged over test-time augmentation, or of the pictures as they
            are.

    Raises:
        UserError: the run has left no gallery.
    """
    file = folder.predictions_file("gallery")
    if not file.is_file():
        raise UserError(f"The run {folder.path} has left no gallery {file}; run it anew.")
    gallery = Gallery.load(file)
    gallery = gallery if tta else gallery.without_tta()
    val_file = folder.predictions_file("val")
    val = Predictions.load(val_file) if val_file.is_file() else None
    views = yaml.safe_load(folder.config_file.read_text())["tta"] if tta else ["identity"]
    source = Source(
        name=str(folder.path),
        checkpoint=os.path.abspath(folder.best_checkpoint),
        digest=weights_digest(predictor),
        weight=1.0,
        tta=list(views),
    )
    return EmbeddedRun(
        source,
        # The other kind is let go: of ten runs and 48,000 pictures it takes another 1 GB.
        replace(gallery, embedding_no_tta=gallery.embedding),
        val if val is None or tta else val.without_tta(),
        Vote(**predictor.task.spec()["vote"]),
    )


def weigh_runs(runs: Sequence[EmbeddedRun], weights: Sequence[float] | None) -> list[EmbeddedRun]:
    """The runs with their weights, without the runs of weight 0.

    Raises:
        UserError: weights of another number, or negative ones.
    """
    chosen = check_weights(weights, len(runs), [run.source.name for run in runs])
    return [
        replace(run, source=replace(run.source, weight=float(weight)))
        for run, weight in zip(runs, chosen, strict=True)
        if weight > 0
    ]


def build_index(runs: Sequence[EmbeddedRun], vote: Vote, *, kind: str) -> GalleryIndex:
    """The joined gallery of runs, by their sources' weights; without rejection, in memory.

    Raises:
        UserError: an empty gallery, or two runs whose galleries differ, named.
    """
    galleries = align_galleries([(run.source.name, run.gallery) for run in runs])
    first = galleries[0]
    assert (first.target >= 0).all(), "a gallery's labels are known"
    return GalleryIndex(
        sources=[run.source for run in runs],
        classes=first.classes.tolist(),
        kind=kind,
        vote=vote,
        rejection=None,
        id=first.id,
        path=first.path,
        target=first.target,
        embedding=join_embeddings(
            [gallery.embedding for gallery in galleries], [run.source.weight for run in runs]
        ),
    )
