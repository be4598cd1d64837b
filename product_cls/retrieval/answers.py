"""The search command's output: rejection threshold, tables, contact sheet, sentences."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.matching.compare import FeatureFolder, compare
from product_cls.matching.sift import CommonPoints
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.lookup import NeighbourMatches
from product_cls.retrieval.index.queries import Query
from product_cls.retrieval.index.sheet import SheetCell
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.tasks.presentation import best_less_second

UNKNOWN = "unknown"  # the answer if the similarity is below the rejection threshold
DOUBTFUL = 0.2  # margins between the two best scores below this are marked on sheets
SHOWN_NEIGHBOURS = 5  # on the sheet


@dataclass(frozen=True)
class Answers:
    """Answers about N pictures.

    Attributes:
        name: the product with the best score, ``[N]``, also if it is not known.
        known: whether the similarity reaches the threshold, bool ``[N]``; all True without one.
        similarity: of the nearest neighbour, which the threshold is compared with, float32 ``[N]``.
        margin: best score less the second best, ``[N]`` in [0, 1].
    """

    name: np.ndarray
    known: np.ndarray
    similarity: np.ndarray
    margin: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """``name``, or the word ``unknown``, ``[N]``; a product may have that name, too."""
        return np.where(self.known, self.name, UNKNOWN)

    @property
    def doubtful(self) -> np.ndarray:
        """Answers that a person should look at, bool ``[N]``."""
        return ~self.known | (self.margin < DOUBTFUL)

    def by_doubt(self) -> np.ndarray:
        """Positions of the answers, the most doubtful first: unknown ones, then by margin."""
        return np.lexsort((self.margin, self.known))

    def of(self, rows: np.ndarray) -> "Answers":
        """Some of the answers, by position."""
        return Answers(self.name[rows], self.known[rows], self.similarity[rows], self.margin[rows])


def answer(
    index: GalleryIndex, scores: np.ndarray, similarity: np.ndarray, threshold: float | None
) -> Answers:
    """The answers to scores ``[N, C]`` with best similarities ``[N]``."""
    known = np.full(len(scores), True) if threshold is None else similarity >= threshold
    names = np.array(index.classes, object)[scores.argmax(axis=1)]
    return Answers(names, known, similarity, best_less_second(scores))


def read_threshold(
    text: str | None, index: GalleryIndex, vote: Vote, changed: Sequence[str]
) -> float | None:
    """The similarity below which the answer is ``unknown``; None answers all queries.

    Args:
        text: a number, ``tuned`` or None.
        vote: the vote of the search.
        changed: names of settings in use that change similarities and so invalidate the tuned
            threshold.

    Raises:
        UserError: ``text`` is none of these; or it is ``tuned``, but the index has no threshold
            that was tuned for this vote, or settings have changed.
    """
    if text is None:
        return None
    if text != "tuned":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not -1 <= number <= 1:  # false for NaN, which would reject nothing
            raise UserError(
                f"threshold={text}; allowed: a number, tuned, null; similarities are from -1 to 1."
            )
        return number
    if index.rejection is None:
        raise UserError(
            f"threshold=tuned: the index {index.folder} has no tuned threshold, because no run "
            "held out pictures (fold=all); pass a number."
        )
    if changed:
        raise UserError(
            f"threshold=tuned was tuned without {changed[0]}, which changes the similarities; pass "
            "a number or leave it out."
        )
    rejection = index.rejection_for(vote)
    if rejection is None:
        same_k = Vote(vote.kind, index.vote.k)
        raise UserError(
            f"threshold=tuned was tuned with {index.vote} and does not hold with {vote}; "
            + (f"search with {same_k}, " if index.rejection_for(same_k) else "")
            + "pass a number, or build the index with that vote."
        )
    return rejection.threshold


def named_table(
    queries: Sequence[Query], answers: Answers, names: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    """The table of ``product_cls.predict``, with the answer, whether it is known, and similarity.

    Args:
        queries: N pictures.
        names, values: the best classes with their scores in [0, 1], best first, ``[N, top]``.
    """
    table = pd.DataFrame({"image": [query.name for query in queries], **_answer_columns(answers)})
    for k in range(names.shape[1]):
        table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
    return table


def _answer_columns(answers: Answers) -> dict[str, np.ndarray]:
    return {
        "prediction": answers.shown,
        "known": np.where(answers.known, "true", "false"),
        # The threshold can lie between two similarities that have four digits in common.
        "similarity": answers.similarity.round(6),
    }


def neighbour_table(
    index: GalleryIndex,
    queries: Sequence[Query],
    answers: Answers,
    matches: NeighbourMatches,
    points: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per picture: its name, its label (if any label is known), answer and neighbours.

    Args:
        queries: N pictures.
        matches: k neighbours of each picture.
        points: in common with each neighbour, int ``[N, k]``; None if pictures were not compared.
    """
    table = pd.DataFrame({"image": [query.name for query in queries]})
    if any(query.label is not None for query in queries):
        table["label"] = [query.label or "" for query in queries]
    table = table.assign(**_answer_columns(answers))
    classes = np.array(index.classes)
    for k in range(matches.target.shape[1]):
        table[f"id_{k + 1}"] = index.id[matches.picture[:, k]]
        table[f"label_{k + 1}"] = classes[matches.target[:, k]]
        table[f"similarity_{k + 1}"] = matches.similarity[:, k].round(4)
        if points is not None:
            table[f"points_{k + 1}"] = points[:, k]
    return table


def is_right(query: Query, answers: Answers, row: int, classes: Collection[str]) -> bool | None:
    """Whether an answer is correct; None if the picture's label is unknown.

    For a product that is not among ``classes``, only a rejection is correct.
    """
    if query.label is None:
        return None
    if not answers.known[row]:
        return query.label not in classes
    return bool(answers.name[row] == query.label)


def verification_note(compared: int, count: int, seconds: float, held_out: int) -> str:
    """What ``verify=sift`` has done, in words.

    Args:
        compared: number of pictures that were compared with their neighbours.
        count: number of pictures.
        seconds: that comparing one took.
        held_out: number of pictures that the weights were fitted on; 0 for none.
    """
    fitted = (
        f"the weight of points was fitted on {held_out} held-out pictures"
        if held_out
        else "the weight of points is a default, because no run's held-out pictures are there"
    )
    return (
        f"verify=sift compared {compared} of {count} pictures with their neighbours, "
        f"{seconds:.2f} s each; {fitted}"
    )


def sheet_row(
    index: GalleryIndex,
    query: Query,
    answers: Answers,
    matches: NeighbourMatches,
    row: int,
    features: FeatureFolder | None = None,
) -> list[SheetCell]:
    """A query and its nearest neighbours as a row of the contact sheet.

    Args:
        row: position of the query in ``answers`` and ``matches``.
        features: of the index's pictures, to show the points in common; None for none.
    """
    truth = [] if query.label is None else [f"is {query.label}"]
    # In brackets, because a product may be called unknown.
    name = answers.name[row] if answers.known[row] else f"({UNKNOWN})"
    right = is_right(query, answers, row, index.classes)
    lines = [name, *truth, query.name]
    shown = matches.picture[row : row + 1, :SHOWN_NEIGHBOURS]
    nothing = [CommonPoints.none()] * shown.shape[1]
    common = nothing if features is None else next(compare([query.path], features, shown))
    most = max(common, key=len).first
    cells = [SheetCell(query.path, lines, right, True, bool(answers.doubtful[row]), most)]
    for k, picture in enumerate(shown[0]):
        label, points = index.classes[matches.target[row, k]], common[k]
        similar = f"similarity {matches.similarity[row, k]:.3f}"
        if len(points):
            similar += f", {len(points)} points"
        cells.append(
            SheetCell(
                Path(index.path[picture]),
                (label, similar, index.id[picture]),
                None if query.label is None else label == query.label,
                points=points.second,
            )
        )
    return cells


def bias_note(refining: Sequence[str]) -> str:
    """How answers about pictures that are themselves in the index are biased, in words.

    Args:
        refining: names of the settings in use that refine the search.
    """
    if refining:
        return f"{refining[0]} lets them influence their own answers, so the accuracy excludes them"
    return (
        "none is its own neighbour, but networks trained on them match them more easily than new "
        "pictures"
    )


def accuracy_sentence(queries: Sequence[Query], answers: Answers, classes: Sequence[str]) -> str:
    """The accuracy of the answers to the N queries with a known label, in words."""
    class_names = set(classes)
    pairs = [(q, is_right(q, answers, row, class_names)) for row, q in enumerate(queries)]
    right = [value for _, value in pairs if value is not None]
    if not right:
        return "No accuracy: no picture that counts has a known label."
    words = f"accuracy {np.mean(right):.1%} of {len(right)} pictures with a known label"
    outside = [value for query, value in pairs if query.label and query.label not in class_names]
    if outside:
        words += (
            f"; {len(outside)} of them show products that are not in the index, "
            f"{sum(map(bool, outside))} answered {UNKNOWN}"
        )
    return words
