"""The search command's output: rejection threshold, tables, contact sheet, sentences."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.lookup import NeighbourMatches
from product_cls.retrieval.index.queries import Query
from product_cls.retrieval.index.sheet import SheetCell
from product_cls.retrieval.index.store import GalleryIndex

UNKNOWN = "unknown"  # the answer if the similarity is below the rejection threshold
SHOWN_NEIGHBOURS = 5  # on the sheet


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
        UserError: ``text`` is none of these; or it is ``tuned``, but the index has no tuned
            threshold, settings have changed, or the vote is not the index's.
    """
    if text is None:
        return None
    if text != "tuned":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"threshold={text}; allowed: a number, tuned, null.")
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
    if vote != index.vote:
        raise UserError(
            f"threshold=tuned was tuned with {index.vote} and does not hold with {vote}; leave "
            "vote and k out, pass a number, or build the index with that vote."
        )
    return index.rejection.threshold


def named_table(
    queries: Sequence[Query], answers: np.ndarray, names: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    """The table of ``product_cls.predict``, with a column for the answer.

    Args:
        queries: N pictures.
        answers: names of the products or ``unknown``, ``[N]``.
        names, values: the best classes with their scores in [0, 1], best first, ``[N, top]``.
    """
    table = pd.DataFrame({"image": [query.name for query in queries], "prediction": answers})
    for k in range(names.shape[1]):
        table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
    return table


def neighbour_table(
    index: GalleryIndex, queries: Sequence[Query], answers: np.ndarray, matches: NeighbourMatches
) -> pd.DataFrame:
    """One row per picture: its name, its label (if any label is known), answer and neighbours.

    Args:
        queries: N pictures.
        answers: names of the products or ``unknown``, ``[N]``.
        matches: k neighbours of each picture.
    """
    table = pd.DataFrame({"image": [query.name for query in queries]})
    if any(query.label is not None for query in queries):
        table["label"] = [query.label or "" for query in queries]
    table["prediction"], table["similarity"] = answers, matches.similarity[:, 0].round(4)
    classes = np.array(index.classes)
    for k in range(matches.target.shape[1]):
        table[f"id_{k + 1}"] = index.id[matches.picture[:, k]]
        table[f"label_{k + 1}"] = classes[matches.target[:, k]]
        table[f"similarity_{k + 1}"] = matches.similarity[:, k].round(4)
    return table


def is_right(query: Query, answer: str, classes: Collection[str]) -> bool | None:
    """Whether an answer is correct; None if the picture's label is unknown.

    For a product that is not among ``classes``, only ``unknown`` is correct.
    """
    if query.label is None:
        return None
    return answer == (query.label if query.label in classes else UNKNOWN)


def sheet_row(
    index: GalleryIndex, query: Query, answer: str, matches: NeighbourMatches, row: int
) -> list[SheetCell]:
    """A query and its nearest neighbours as a row of the contact sheet.

    Args:
        row: position of the query in ``matches``.
    """
    truth = [] if query.label is None else [f"is {query.label}"]
    lines = [answer, *truth, query.name]
    cells = [SheetCell(query.path, lines, is_right(query, answer, index.classes))]
    for k in range(min(SHOWN_NEIGHBOURS, matches.target.shape[1])):
        label, picture = index.classes[matches.target[row, k]], matches.picture[row, k]
        cells.append(
            SheetCell(
                Path(index.path[picture]),
                (label, f"similarity {matches.similarity[row, k]:.3f}", index.id[picture]),
                None if query.label is None else label == query.label,
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


def accuracy_sentence(queries: Sequence[Query], answers: np.ndarray, classes: Sequence[str]) -> str:
    """The accuracy of N answers, text ``[N]``, to the queries with a known label, in words."""
    class_names = set(classes)
    pairs = [
        (q, is_right(q, answer, class_names)) for q, answer in zip(queries, answers, strict=True)
    ]
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
