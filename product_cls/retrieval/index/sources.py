"""Finished retrieval runs as the sources of an index."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    """A finished retrieval run with its embeddings.

    Attributes:
        source: the run's network, with weight 1.
        gallery: its two embeddings are the same array, with or without TTA as requested.
        val: predictions for the held-out pictures, with or without TTA like the gallery; None for
            ``fold=all``.
        vote: the vote of the run's task.
    """

    source: Source
    gallery: Gallery
    val: Predictions | None
    vote: Vote


def load_embedded_runs(roots: Sequence[Path], *, tta: bool) -> tuple[list[EmbeddedRun], list[str]]:
    """Finished retrieval runs below the folders, and sentences about the other runs.

    Args:
        roots: folders of runs or sweeps; each must have a run to index.
        tta: whether to take the embeddings averaged over test-time augmentation, or those of the
            unaugmented pictures.

    Raises:
        UserError: a folder without such a run, or a run listed twice.
    """
    runs: list[EmbeddedRun] = []
    left_out: list[str] = []
    for root in roots:
        count, reasons = len(runs), []
        for folder in find_runs(root):
            name = str(folder.path)
            if any(other.source.name == name for other in runs):
                raise UserError(f"runs names {name} twice.")
            if shortcoming := folder.shortcoming():
                reasons.append(f"{name} {shortcoming}")
                continue
            try:
                predictor = Predictor.load(folder.best_checkpoint)
                if predictor.task.needs_gallery:
                    runs.append(embedded_run(folder, predictor, tta=tta))
                else:
                    reasons.append(f"{name} is of task={predictor.task.name}, not retrieval")
            except UserError as error:  # one bad folder does not end the index of the others
                reasons.append(f"{name} cannot be used: {str(error).rstrip('.')}")
        if len(runs) == count:
            raise UserError(f"No run in {root} can be indexed: {'; '.join(reasons)}.")
        left_out += reasons
    return runs, left_out


def embedded_run(folder: RunFolder, predictor: Predictor, *, tta: bool) -> EmbeddedRun:
    """A finished retrieval run with its gallery.

    Args:
        predictor: loaded from the run's best checkpoint.
        tta: see ``load_embedded_runs``.

    Raises:
        UserError: the run has no gallery.
    """
    file = folder.predictions_file("gallery")
    if not file.is_file():
        raise UserError(f"The run {folder.path} has no gallery {file}; train it again.")
    gallery = Gallery.load(file)
    gallery = gallery if tta else gallery.without_tta()
    val_file = folder.predictions_file("val")
    val = Predictions.load(val_file) if val_file.is_file() else None
    views = folder.config()["tta"] if tta else ["identity"]
    source = Source(
        name=str(folder.path),
        checkpoint=os.path.abspath(folder.best_checkpoint),
        digest=weights_digest(predictor),
        weight=1.0,
        tta=list(views),
    )
    return EmbeddedRun(
        source,
        # The other embedding is freed: for ten runs and 48,000 pictures it takes another 1 GB.
        replace(gallery, embedding_no_tta=gallery.embedding),
        val if val is None or tta else val.without_tta(),
        Vote(**predictor.task.spec()["vote"]),
    )


def weigh_runs(runs: Sequence[EmbeddedRun], weights: Sequence[float] | None) -> list[EmbeddedRun]:
    """The runs with their weights, without the runs of weight 0.

    Raises:
        UserError: weights of the wrong number or sign.
    """
    checked = check_weights(weights, len(runs), [run.source.name for run in runs])
    return [
        replace(run, source=replace(run.source, weight=float(weight)))
        for run, weight in zip(runs, checked, strict=True)
        if weight > 0
    ]


def build_index(runs: Sequence[EmbeddedRun], vote: Vote, *, kind: str) -> GalleryIndex:
    """Join the galleries of runs, by their sources' weights, into an index in memory.

    Args:
        runs: one or more.
        vote: the index's vote.
        kind: see ``build_searcher``.

    Returns:
        The index, without a rejection threshold.

    Raises:
        UserError: an empty gallery, or galleries of two runs that differ.
    """
    galleries = align_galleries([(run.source.name, run.gallery) for run in runs])
    first = galleries[0]
    assert (first.target >= 0).all(), "all pictures of a gallery are labelled"
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
