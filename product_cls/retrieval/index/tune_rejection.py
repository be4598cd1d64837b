"""The rejection threshold of an index, tuned on held-out pictures.

Most networks of a joined index were trained on any given training picture, and so embed it nearer
to its product than a new picture. Therefore each validation picture is embedded only by the runs
that held it out, joined as in the index, and searched in their gallery without their held-out
pictures. The queries of all folds are then pooled. Whether an answer is right depends on the vote,
so each kind of vote has its own threshold.

The curve has three limits:

- The index joins more networks than held out a picture. The maximum of averaged similarities is at
  most the average of their maxima, so the index rejects a little more than the curve shows.
- An unknown product is simulated by removing the query's own product from the gallery. The networks
  were trained to separate that product; a product they never saw may be nearer to another.
- Validation pictures resemble training pictures as much as the folds allow. Under a shift of view
  more is rejected; ``folds.strategy=view``, which holds out views, measures that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from product_cls.display.style import BLUE, INK, VERMILION, open_panel
from product_cls.inference.align import align
from product_cls.neighbours.join import join_embeddings
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.sources import EmbeddedRun
from product_cls.retrieval.index.store import Rejection
from product_cls.retrieval.join_galleries import align_galleries
from product_cls.retrieval.rejection import (
    LeaveClassOut,
    Threshold,
    leave_class_out,
    tune_rejection_threshold,
)


@dataclass(frozen=True)
class Tuned:
    """A threshold, and the similarities it was tuned on.

    Attributes:
        searched: best similarities of the held-out pictures of all folds.
        threshold: the selected threshold with its curve.
    """

    searched: LeaveClassOut
    threshold: Threshold

    @property
    def rejection(self) -> Rejection:
        """The part that is kept in the index."""
        selected = self.threshold
        return Rejection(selected.threshold, selected.precision, selected.recall)

    def table(self) -> pd.DataFrame:
        """The curve with columns ``threshold, precision, recall``, highest threshold first."""
        curve = self.threshold
        return pd.DataFrame(
            {
                "threshold": curve.thresholds,
                "precision": curve.precisions.round(6),
                "recall": curve.recalls.round(6),
            }
        )


def search_held_out(
    runs: Sequence[EmbeddedRun], votes: Sequence[Vote], *, device: torch.device | None = None
) -> list[LeaveClassOut]:
    """Search the runs' held-out pictures, once for all votes.

    Args:
        runs: the index's runs; those without held-out pictures are ignored, and one or more have
            some.
        votes: ways in which the neighbours vote.
        device: where to search; None for the CPU.

    Returns:
        One result for each vote.

    Raises:
        UserError: as in ``align`` and ``leave_class_out``.
    """
    folds: dict[frozenset[str], list[EmbeddedRun]] = {}
    for run in runs:
        if run.val is not None:
            folds.setdefault(frozenset(run.val.id.tolist()), []).append(run)
    by_fold = [_search_fold(members, votes, device) for members in folds.values()]
    return [
        LeaveClassOut(
            known_similarity=np.concatenate([part.known_similarity for part in parts]),
            known_right=np.concatenate([part.known_right for part in parts]),
            unknown_similarity=np.concatenate([part.unknown_similarity for part in parts]),
        )
        for parts in zip(*by_fold, strict=True)
    ]


def tune_rejection(searched: LeaveClassOut, *, precision: float | None = None) -> Tuned:
    """Tune the threshold for one vote.

    Args:
        searched: from ``search_held_out``.
        precision: see ``tune_rejection_threshold``.

    Raises:
        UserError: as in ``tune_rejection_threshold``.
    """
    return Tuned(
        searched,
        tune_rejection_threshold(
            searched.known_similarity,
            searched.known_right,
            searched.unknown_similarity,
            precision=precision,
        ),
    )


def _search_fold(
    members: Sequence[EmbeddedRun], votes: Sequence[Vote], device: torch.device | None
) -> list[LeaveClassOut]:
    """Search with the held-out pictures of runs that held out the same pictures."""
    weights = [run.source.weight for run in members]
    queries = align([(run.source.name, run.val) for run in members if run.val is not None])
    galleries = align_galleries([(run.source.name, run.gallery) for run in members])
    others = [gallery.without(queries[0].id) for gallery in galleries]
    heads = [part.class_scores for part in queries if part.class_scores is not None]
    return leave_class_out(
        join_embeddings(
            [part.embedding for part in queries if part.embedding is not None], weights
        ),
        queries[0].target,
        join_embeddings([gallery.embedding for gallery in others], weights),
        others[0].target,
        votes,
        class_scores=np.average(heads, axis=0, weights=weights),
        device=device,
    )


def rejection_figure(tuned: Tuned) -> Figure:
    """Histograms of similarities of known and unknown products, and precision over recall."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    similarities, curve = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _similarity_panel(similarities, tuned)
    _curve_panel(curve, tuned.threshold)
    return figure


def _similarity_panel(axes: Axes, tuned: Tuned) -> None:
    open_panel(axes, "similarity to the nearest picture", "held-out pictures")
    known, unknown = tuned.searched.known_similarity, tuned.searched.unknown_similarity
    both = np.concatenate([known, unknown])
    bins = np.linspace(both.min(), both.max() + 1e-6, 41).tolist()
    axes.hist(known, bins, color=BLUE, alpha=0.45, label="product in the gallery")
    # An outline and a filled area can be told apart in a grey print.
    axes.hist(
        unknown,
        bins,
        histtype="step",
        color=VERMILION,
        linewidth=1.6,
        label="product left out of it",
    )
    axes.axvline(tuned.threshold.threshold, color=INK, linewidth=1.2, linestyle="--")
    axes.annotate(
        f" answered from {tuned.threshold.threshold:.3f}",
        (tuned.threshold.threshold, 1.0),
        xycoords=("data", "axes fraction"),
        va="bottom",
        ha="center",
        fontsize=8,
        color=INK,
    )
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _curve_panel(axes: Axes, threshold: Threshold) -> None:
    open_panel(axes, "recall (%)", "precision (%)")
    axes.plot(100 * threshold.recalls, 100 * threshold.precisions, color=BLUE, linewidth=1.6)
    axes.plot(100 * threshold.recall, 100 * threshold.precision, "o", color=INK, markersize=6)
    axes.annotate(
        f"precision {threshold.precision:.1%}\nrecall {threshold.recall:.1%}",
        (100 * threshold.recall, 100 * threshold.precision),
        xytext=(-8, -8),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=INK,
    )
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
