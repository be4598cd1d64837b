"""The rejection threshold of an index, tuned on held-out pictures.

Each validation picture is embedded and searched as ``held_out.py`` says. The queries of all folds
are then pooled. Whether an answer is right depends on the vote, so each kind of vote has its own
threshold.

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
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.held_out import by_fold, join_held_out
from product_cls.retrieval.index.sources import EmbeddedRun
from product_cls.retrieval.index.store import Rejection
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
    searched = [_search_fold(members, votes, device) for members in by_fold(runs)]
    return [
        LeaveClassOut(
            known_similarity=np.concatenate([part.known_similarity for part in parts]),
            known_right=np.concatenate([part.known_right for part in parts]),
            unknown_similarity=np.concatenate([part.unknown_similarity for part in parts]),
        )
        for parts in zip(*searched, strict=True)
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
    joined = join_held_out(members)
    return leave_class_out(
        joined.embedding,
        joined.target,
        joined.others,
        joined.others_target,
        votes,
        class_scores=joined.class_scores,
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
